"""Images read by several processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from copywatch.evaluation.describe import Description, Job, Recipe, described
from copywatch.fingerprint import decode_within_limits
from copywatch.fingerprint.rows import Extraction
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.settings import Settings
from tests.evaluation.conftest import jpeg, picture


@dataclass(frozen=True)
class Deadly(Recipe):
    """A recipe whose decoder takes its process with it for files that are called so."""

    def described(self, job: Job) -> Description:
        if "deadly" in job.path.name:
            os._exit(139)
        return Description(fingerprint=job.path.name.encode())


def recipe(config: Settings, kind: type[Recipe] = Recipe) -> Recipe:
    """Of the settings."""
    models = config.prepared_dir / "models"
    return kind(Extraction("mao", config.max_image_pixels, config.max_image_bytes, models))


def test_processes_give_what_one_gives(tmp_path: Path, config: Settings) -> None:
    """In the jobs' order, unusable ones among them."""
    jobs = []
    for number in range(33):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(b"" if number == 7 else jpeg(picture(number), 80))
        jobs.append(Job(file, protected=number % 2 == 0))
    several = described(recipe(config), jobs, 2)
    assert several == described(recipe(config), jobs, 1)
    assert several[7].reason.startswith("empty")
    first, second = (decode_within_limits(job.path.read_bytes()).rgb for job in jobs[:2])
    assert several[0].views == protected_views(first).tobytes()
    assert several[1].views == sighting_views(second).tobytes()
    assert len({one.digest for one in several if one.fingerprint}) == 32


def test_a_decoder_that_dies_loses_its_own_image_only(tmp_path: Path, config: Settings) -> None:
    """Wherever it stands; every other image is read, once."""
    names = ["deadly-first.jpg", *(f"{number}.jpg" for number in range(40)), "deadly-last.jpg"]
    found = described(recipe(config, Deadly), [Job(tmp_path / name, False) for name in names], 2)
    assert [one.fingerprint.decode() for one in found] == ["", *names[1:-1], ""]
    assert {one.reason for one in (found[0], found[-1])} == {"corrupt image (the process that read it died)"}


def test_a_missing_file_or_model_is_told(tmp_path: Path, config: Settings) -> None:
    """A file is unusable; without models nothing can be measured."""
    from copywatch.errors import MachineError

    assert "cannot be read" in recipe(config).described(Job(tmp_path / "none.jpg", True)).reason
    (tmp_path / "a.jpg").write_bytes(jpeg(picture(1)))
    bare = Recipe(Extraction("mao", 10**8, 10**8, tmp_path / "no-models"))
    (tmp_path / "large.jpg").write_bytes(b"x" * 101)
    small = Recipe(Extraction("mao", 100, 100, config.prepared_dir / "models"))
    assert "101 bytes, at most 100" in small.described(Job(tmp_path / "large.jpg", False)).reason
    with pytest.raises(MachineError, match="make setup"):
        described(bare, [Job(tmp_path / "a.jpg", True)] * 40, 2)
