"""What Spark needs before its first job: Delta's jars, its defaults, and an archive of loaded classes.

All of it is made once, at set-up, below `prepared_dir/spark`; jobs then start with `--properties-file` and resolve
nothing. (A `SPARK_CONF_DIR` would put a folder on the class path, and a JVM archives no class path with folders.) The
archive (JDK application class-data sharing) takes the start of a job from 15 s to 5 s on two
cores; it fits one JVM and one class path, and the JVM ignores it where they differ.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark

from copywatch.errors import MachineError

log = logging.getLogger(__name__)

DELTA_VERSION = "4.4.0"
DELTA_MODULES = ("delta-spark_4.2_2.13", "delta-storage", "delta-kernel-api", "delta-kernel-defaults")
"""Enough for write, read, MERGE and OPTIMIZE; the rest of the closure is in Spark already."""

_IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir="${ivy.settings.dir}/cache"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""
_LOG4J = """rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
logger.nativecode.name = org.apache.hadoop.util.NativeCodeLoader
logger.nativecode.level = error
logger.utils.name = org.apache.spark.util.Utils
logger.utils.level = error
"""
_MINIMUM_JAVA = 17
_DRIVER_MEMORY = "1g"
_QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Jobs here run for seconds: the time that a better compiler and collector take to pay off never comes."""

_INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
"""Spark evaluates expressions as they are and compiles no Java for them. A job has dozens of small plans, and compiling
them took half of the JVM's time; what is heavy here is done in Python, batch by batch."""


def java_home_binary() -> str:
    """The `java` that Spark will use: JAVA_HOME's, else the first of PATH.

    Raises:
        MachineError: there is none, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    hint = f"Install Java {_MINIMUM_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless)."
    if java is None:
        raise MachineError(f"java: not found. {hint}")
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{java} -version failed: {error}. {hint}") from error
    version = re.search(r'version "(\d+)', answer)
    if version is None or int(version[1]) < _MINIMUM_JAVA:
        raise MachineError(f"{java} is {answer.splitlines()[0] if answer else 'of no known version'}. {hint}")
    return java


def resolve_jars(folder: Path) -> list[Path]:
    """Bring Delta's jars into `folder/jars` with Spark's own Ivy; those there already are kept.

    Raises:
        MachineError: they cannot be had.
    """
    jars = [folder / "jars" / f"{module}-{DELTA_VERSION}.jar" for module in DELTA_MODULES]
    if all(jar.exists() for jar in jars):
        return jars
    ivy_folder = folder / "ivy"
    ivy_folder.mkdir(parents=True, exist_ok=True)
    (ivy_folder / "ivysettings.xml").write_text(_IVY_SETTINGS)
    dependencies = "".join(
        f'<dependency org="io.delta" name="{module}" rev="{DELTA_VERSION}" transitive="false" conf="default->master"/>'
        for module in DELTA_MODULES
    )
    (ivy_folder / "ivy.xml").write_text(
        '<ivy-module version="2.0"><info organisation="copywatch" module="jars"/>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    command = [java_home_binary(), "-jar", str(ivy), "-settings", "ivysettings.xml", "-ivy", "ivy.xml"]
    command += ["-retrieve", f"{folder.resolve()}/jars/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, cwd=ivy_folder, capture_output=True, text=True, check=False)
    missing = [jar.name for jar in jars if not jar.exists()]
    if done.returncode or missing:
        troubles = "\n".join(line for line in done.stdout.splitlines() if "WARN" in line or "ERROR" in line)[-2000:]
        raise MachineError(
            f"Delta's jars could not be had from Maven Central: {', '.join(missing)}.\n"
            f"{troubles or done.stderr[-2000:]}"
        )
    return jars


def write_defaults(folder: Path, jars: list[Path], *, cores: int | None = None) -> Path:
    """Write Spark's defaults to `folder/spark.properties`, the `--properties-file` of every job; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    log4j = folder.resolve() / "log4j2.properties"
    partitions = cores or os.cpu_count() or 2
    archive = folder.resolve() / "classes.jsa"
    settings = {
        "spark.jars": ",".join(str(jar.resolve()) for jar in jars),
        # On the class path as well: only classes from there can be in the archive.
        "spark.driver.extraClassPath": ":".join(str(jar.resolve()) for jar in jars),
        "spark.driver.memory": _DRIVER_MEMORY,
        "spark.driver.extraJavaOptions": (
            f"-XX:SharedArchiveFile={archive} -Xshare:auto -Xlog:disable -Xlog:all=error:stderr "
            f"-Dlog4j2.configurationFile={log4j} {_QUICK_START}"
        ),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Tables here are small for Delta: its defaults of 50 and 200 partitions would cost most of a job's time.
        "spark.databricks.delta.snapshotPartitions": str(partitions),
        "spark.sql.shuffle.partitions": str(partitions),
        **_INTERPRETED,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    log4j.write_text(_LOG4J)
    properties = folder / "spark.properties"
    properties.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    return properties


def job_environment(prepared: Path) -> dict[str, str]:
    """Environment variables of every Spark process of ours."""
    return {
        "PYSPARK_SUBMIT_ARGS": f"--properties-file {prepared / 'spark' / 'spark.properties'} pyspark-shell",
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
    }


def dump_class_archive(folder: Path, job: list[str]) -> None:
    """Run `job` (arguments of spark-submit) once and keep the classes that it loaded in `folder/classes.jsa`.

    Raises:
        MachineError: the job failed.
    """
    archive = folder.resolve() / "classes.jsa"
    partial = archive.with_suffix(".partial")
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    options = f"-XX:ArchiveClassesAtExit={partial} -Xlog:disable {_QUICK_START}"
    properties = folder / "spark.properties"
    command = [str(submit), "--master", "local[2]", "--properties-file", str(properties)]
    done = subprocess.run(
        [*command, "--driver-java-options", options, *job],
        env={**os.environ, **job_environment(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MachineError(f"the first Spark job failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    if partial.exists():
        partial.replace(archive)
    else:
        # Some JVMs cannot dump; jobs then start slower, and that is all.
        log.warning("the JVM made no class-data archive; Spark jobs will start in 15 s rather than 5 s")
