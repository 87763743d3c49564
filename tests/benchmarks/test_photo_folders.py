"""What counts as a photo of a folder, which of them are different, and on which side each stands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from photo_folder import folder_of, save_noise

from benchmarks.photos import DEMO_PHOTOS, Pictures, different, half, read_photos, read_real_copies


def test_photos_are_read_from_below_by_name_and_the_unusable_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_noise(tmp_path / "z.png", 1)
    save_noise(tmp_path / "deep" / "er" / "a.jpg", 2)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    (tmp_path / "notes.txt").write_text("no photo, and nobody takes it for one")
    with caplog.at_level(logging.WARNING):
        photos = read_photos(tmp_path)
    assert [photo.name for photo in photos] == ["deep/er/a.jpg", "z.png"]
    assert {photo.group for photo in photos} == {"photo"}
    assert len(caplog.messages) == 1
    assert "1 of 3 files left out: broken.jpg (" in caplog.messages[0]


def test_the_manifest_decides_what_is_read_and_what_is_a_look_alike(tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    (tmp_path / "manifest.csv").write_text(
        "split,path,width,height,fine,tags\ndev,02.png,64,48,bus,object\nhardneg,00.png,64,48,Motorbikes,\n"
    )
    assert [(photo.name, photo.group) for photo in read_photos(tmp_path)] == [
        ("00.png", "look-alike"),
        ("02.png", "photo"),
    ]


def test_photos_of_one_scene_are_not_different_and_stand_on_one_side(tmp_path: Path) -> None:
    folder_of(tmp_path, 40)
    chain = [(f"{number:02}.png", f"{number + 1:02}.png") for number in range(0, 19)]
    rows = [*chain, ("30.png", "31.png"), ("elsewhere.png", "39.png")]
    (tmp_path / "same_photos.csv").write_text("a,b,why\n" + "".join(f"{a},{b},burst\n" for a, b in rows))
    photos = read_photos(tmp_path)
    assert [photo.name for photo in different(photos)] == [
        "00.png", *(f"{number:02}.png" for number in range(20, 31)), *(f"{number:02}.png" for number in range(32, 40)),
    ]  # fmt: skip
    assert len({photo.half for photo in photos[:20]}) == 1
    assert {photo.half for photo in photos} == {"choose", "report"}
    assert half(photos, "choose") + half(photos, "report") != photos
    assert len(half(photos, "choose")) + len(half(photos, "report")) == len(photos)


def test_a_given_table_of_same_photos_comes_before_the_folders_own(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", 3)
    (tmp_path / "photos" / "same_photos.csv").write_text("a,b\n00.png,01.png\n")
    given = tmp_path / "given.csv"
    given.write_text("a,b\n01.png,02.png\n")
    assert [photo.scene for photo in read_photos(tmp_path / "photos", given)] == ["00.png", "01.png", "01.png"]


def test_real_copies(tmp_path: Path) -> None:
    assert read_real_copies(tmp_path) == []
    (tmp_path / "real_copies.csv").write_text("label,a,b\ncrop_copy,x/1.jpg,x/2.jpg\n")
    (pair,) = read_real_copies(tmp_path)
    assert (pair.label, pair.a, pair.b) == ("crop_copy", tmp_path / "x" / "1.jpg", tmp_path / "x" / "2.jpg")
    (tmp_path / "real_copies.csv").write_text("kind,a,b\n")
    with pytest.raises(ValueError, match="lacks the column 'label'"):
        read_real_copies(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no usable picture"):
        read_photos(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder of photos"):
        read_photos(tmp_path / "nowhere")


def test_the_demos_photos_are_all_different() -> None:
    photos = read_photos()
    assert len(different(photos)) == len(photos) == 24
    assert photos[0].path.parent == DEMO_PHOTOS
    pictures = Pictures(photos)
    assert len(pictures[3:5]) == 2
    assert pictures[3:5][0].tobytes() == pictures[3].tobytes() == photos[3].image().tobytes()
