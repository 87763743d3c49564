"""The truth that the demo is judged against must be true itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from copywatch.demo.edits import BROKEN, COPIES, ODD_FORMATS
from copywatch.demo.planting import (
    GONE,
    LATE_OWNER,
    MEMBERS,
    OWNERS,
    PHOTOS_DIR,
    PROTECTED,
    Planting,
    plant,
    write_intake,
)
from copywatch.errors import Reason

EARLY = {photo for owner in OWNERS for photo in owner.photos}


@pytest.fixture(scope="module")
def planting() -> Planting:
    return plant()


def every_photo() -> set[str]:
    return {path.name for path in PHOTOS_DIR.glob("*.jpg")}


def test_half_of_the_photos_are_protected_by_two_owners_and_two_by_a_third_later() -> None:
    assert len(every_photo()) == 24
    assert len(PROTECTED) == 14
    assert set(PROTECTED) <= every_photo()
    assert [len(owner.photos) for owner in (*OWNERS, LATE_OWNER)] == [6, 6, 2]


def test_copies_of_what_is_registered_later_are_in_both_rounds(planting: Planting) -> None:
    late = [image for image in planting.copies if image.crawled_before]
    assert [(image.protected, image.edit, image.round) for image in late] == [
        ("18.jpg", "untouched", 1),
        ("18.jpg", "exif-rotated", 1),
        ("24.jpg", "untouched", 2),
    ]


def test_every_copy_is_of_a_protected_photo_and_nothing_else_is(planting: Planting) -> None:
    for image in planting.images:
        assert image.source in every_photo()
        assert image.protected == (image.source if image.source in PROTECTED else None)
    shown_as_they_are = [image for image in planting.images if not image.reason and image.source not in EARLY]
    assert {image.edit for image in shown_as_they_are} == {"untouched", *(edit.name for edit in ODD_FORMATS)}
    assert {image.edit for image in planting.unusable} == {GONE, *(edit.name for edit in BROKEN)}
    assert not [image for image in planting.unusable if image.is_copy]
    assert len(planting.copies) + len(planting.unrelated) + len(planting.unusable) == len(planting.images)


def test_round_one_has_each_edit_once_and_each_of_another_photo(planting: Planting) -> None:
    copies = [image for image in planting.of_round(1) if image.protected in EARLY]
    assert Counter(image.edit for image in copies) == Counter(edit.name for edit in COPIES)
    # The screenshot shows one that is posted by itself too.
    alone = [image.protected for image in copies if image.edit != "screenshot"]
    assert len(set(alone)) == len(alone) == len(copies) - 1


def test_round_two_posts_a_copy_and_two_photos_not_seen_before(planting: Planting) -> None:
    before = {image.source for image in planting.of_round(1)}
    after = planting.of_round(2)
    assert len(after) == 3
    assert [image.protected in EARLY for image in after].count(True) == 1
    assert not before & {image.source for image in after}
    assert min(image.uploaded_at for image in after) > max(image.uploaded_at for image in planting.of_round(1))


def test_files_addresses_and_dates_are_unique(planting: Planting) -> None:
    for field in ("file", "image_path", "uploaded_at"):
        values = [getattr(image, field) for image in planting.images]
        assert len(set(values)) == len(values), field
    assert {image.uploader for image in planting.images} <= {member.name for member in MEMBERS.values()}
    assert all(image.uploaded_at.utcoffset() == timedelta(0) for image in planting.images)


def test_no_two_files_have_the_same_bytes_save_the_empty_one(planting: Planting) -> None:
    contents = [content for image in planting.images if (content := image.content())]
    assert len({hashlib.sha256(content).digest() for content in contents}) == len(contents)


def test_names_fit_what_was_done(planting: Planting) -> None:
    by_edit = {image.edit: image for image in planting.of_round(1) if image.protected in EARLY}
    assert by_edit["byte-identical"].file == by_edit["byte-identical"].source
    assert by_edit["renamed"].file != by_edit["renamed"].source
    assert by_edit["hot-linked"].hot_linked


def test_gone_image_has_no_content(planting: Planting) -> None:
    (gone,) = [image for image in planting.images if image.edit == GONE]
    assert gone.content() is None
    assert gone.reason is Reason.HTTP_STATUS


def test_an_image_is_known_by_its_address(planting: Planting) -> None:
    barn = planting.at("http://127.0.0.1:4711/media/red-barn.jpg?size=full")
    assert barn is not None
    assert (barn.protected, barn.edit) == ("22.jpg", "cropped-5")
    hot = planting.at("http://localhost:4712/portfolio/20.jpg")
    assert hot is not None
    assert hot.hot_linked
    assert planting.at("http://127.0.0.1:4711/media/elsewhere.jpg") is None


def test_intake_has_the_originals_of_each_owner(tmp_path: Path) -> None:
    written = write_intake(tmp_path)
    assert {owner.email for owner in written} == {"ada@photographers.example", "bruno@photographers.example"}
    for owner, paths in written.items():
        assert sorted((tmp_path / owner.folder).iterdir()) == sorted(paths)
        for path in paths:
            assert path.read_bytes() == (PHOTOS_DIR / path.name).read_bytes()
