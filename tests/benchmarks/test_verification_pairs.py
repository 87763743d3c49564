"""Who takes part in learning and reporting, what is kept, and that a pair is measured as the product measures it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photo_folder import folder_of
from PIL import Image

from benchmarks import verification_pairs
from benchmarks.photos import DEMO_PHOTOS, Half, Photo, half, read_photos
from benchmarks.verification_pairs import (
    MEASURES,
    UNRELATED,
    judged,
    look_alike_pairs,
    looked_up,
    measured,
    measures_of,
    other_pairs,
    protected_of,
    registered,
    sample,
    seen_of,
    with_verdicts,
)
from copywatch.verification.model import model
from copywatch.verification.verdict import Judgement
from copywatch.verification.verify import found_of, original_of, verify


def made_up(count: int, look_alikes: int = 0) -> list[Photo]:
    """Photos without files."""
    names = [f"{number:03}.jpg" for number in range(count)]
    return [
        Photo(name, Path(name), f"{place:064x}", "look-alike" if place < look_alikes else "photo", name)
        for place, name in enumerate(names)
    ]


@pytest.mark.parametrize("which", ["choose", "report"])
def test_only_one_half_is_edited_and_what_is_kept_out_is_not_protected(which: Half) -> None:
    photos = made_up(200, 40)
    taken = sample(photos, which, sources=12, unrelated=20)
    protected = {photo.name for photo in taken.protected}
    edited = [post for post in taken.posted if post.kind is None]
    unrelated = [post for post in taken.posted if post.kind == UNRELATED]
    assert {post.photo.half for post in taken.posted} == {which}
    assert len(edited) == 12
    assert sum(post.photo.group == "look-alike" for post in edited) == 2
    assert {post.photo.name for post in edited} <= protected
    kept_out = {post.photo.name for post in unrelated}
    assert len(kept_out) == 20
    assert not kept_out & protected
    for post in taken.posted:
        assert {filler.name for filler in post.fillers} <= kept_out - {post.photo.name}
        assert len(post.fillers) == 3
    if which == "choose":
        assert {photo.half for photo in taken.protected} == {"choose"}
    else:
        assert len(protected) == 180


def blank() -> Image.Image:
    return Image.new("RGB", (200, 150), (120, 130, 140))


def test_a_pair_is_judged_as_the_product_judges_it() -> None:
    images = [photo.image() for photo in read_photos(DEMO_PHOTOS)[:3]] + [blank()]
    small = images[0].resize((150, 100))
    verdicts: list[Judgement | None] = []
    for one in images:
        original = original_of(protected_of(one).row)
        for other in [*images, small]:
            found = found_of(other)
            row = {**dict.fromkeys(MEASURES, np.nan), **measured(original, found)}
            said = verify(original, found)
            assert judged(row, model()) == said.judgement
            assert measures_of(row) == said.measures
            verdicts.append(said.judgement)
    assert set(verdicts) >= {None, Judgement.DIFFERENT, Judgement.CERTAIN}


def test_a_kept_picture_is_the_one_that_the_product_sees() -> None:
    file = DEMO_PHOTOS.joinpath(read_photos(DEMO_PHOTOS)[0].name).read_bytes()
    seen, rgb = seen_of(file).found(), read_photos(DEMO_PHOTOS)[0].image()
    direct = found_of(rgb)
    np.testing.assert_array_equal(np.asarray(seen.picture), np.asarray(direct.picture))
    np.testing.assert_array_equal(seen.points.upright.codes, direct.points.upright.codes)


def test_look_alikes_are_compared_once_each_and_the_cache_answers_alike(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = read_photos(DEMO_PHOTOS)[:3]
    for number, photo in enumerate(originals):
        shutil.copy(photo.path, folder / f"{number}.jpg")
    originals[0].image().save(folder / "again.jpg", quality=80)
    names = ["0.jpg", "1.jpg", "2.jpg", "again.jpg"]
    rows = "".join(f"hardneg,{name},1,1,x,y\n" for name in names)
    (folder / "manifest.csv").write_text("split,path,width,height,fine,tags\n" + rows, encoding="utf-8")
    (folder / "same_photos.csv").write_text("a,b\n0.jpg,again.jpg\n", encoding="utf-8")
    photos = read_photos(folder)
    first = look_alike_pairs(photos, tmp_path / "cache")
    assert first.tried == 6
    pair = first.pairs[(first.pairs.shown_photo == "again.jpg") & (first.pairs.original == "0.jpg")]
    assert pair["copy"].tolist() == [True]
    assert pair.inliers.item() > 50
    kept = sorted((tmp_path / "cache").rglob("*"))
    second = look_alike_pairs(photos, tmp_path / "cache")
    pd.testing.assert_frame_equal(first.pairs, second.pairs)
    assert sorted((tmp_path / "cache").rglob("*")) == kept


@pytest.mark.parametrize("which", ["choose", "report"])
def test_other_pairs_are_each_compared_once_and_never_two_look_alikes(
    which: Half, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [
        replace(photo, group="look-alike" if place < 6 else "photo")
        for place, photo in enumerate(read_photos(folder_of(tmp_path / "photos", 24)))
    ]
    tried: list[frozenset[str]] = []

    def compared(order: list[Photo], tasks: list[tuple[int, list[int]]], _kind: str, _folder: Path | None) -> None:
        tried.extend(frozenset((order[one].name, order[other].name)) for one, others in tasks for other in others)

    monkeypatch.setattr(verification_pairs, "_compared", compared)
    other_pairs(photos, which, 10**9, None)
    named = {photo.name: photo for photo in photos}
    own = {photo.name for photo in half(photos, which)}
    among = own if which == "choose" else set(named)
    expected = {
        frozenset((a, b))
        for a in among
        for b in among
        if a < b and {a, b} & own and not named[a].group == named[b].group == "look-alike"
    }
    assert len(tried) == len(set(tried))
    assert set(tried) == expected
    tried.clear()
    other_pairs(photos, which, 5, None)
    assert 5 <= len(tried) < 5 + len(among)


def test_a_copy_is_looked_up_by_both_stages_and_a_stranger_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = read_photos(DEMO_PHOTOS)
    kinds = {"mild": verification_pairs.KINDS["mild"][:1], "collage": verification_pairs.KINDS["collage"][:1]}
    monkeypatch.setattr(verification_pairs, "KINDS", kinds)
    taken = sample(photos, "report", sources=2, unrelated=4)
    register = registered(taken.protected, None)
    pairs = with_verdicts(looked_up(taken.posted, register, None), model())
    copies = pairs[pairs["copy"].astype(bool)]
    assert sorted(copies.edit) == ["collage of 2"] * 2 + ["jpeg 10"] * 2
    assert (copies.votes > 0).all()
    assert copies[copies.kind == "mild"].score.notna().all()
    assert copies[copies.kind == "collage"].score.isna().all()
    assert set(copies.second) == {"certain"}
    assert not pairs[pairs.kind == UNRELATED]["copy"].any()


def test_what_the_chain_makes_of_a_verdict() -> None:
    certain = dict.fromkeys(MEASURES, 1.0) | {
        "inliers": 150, "blocks": 200, "expected": 160, "part_blocks": 200, "colour": 0.0, "tone": 0.0, "hole": 0.0,
        "greyed": False,
    }  # fmt: skip
    nothing = dict.fromkeys(MEASURES, np.nan)
    base = {"shown_photo": "a", "edit": "none", "kind": "x", "original": "b", "copy": True, "identical": False}
    rows = [
        {**base, **certain, "votes": 20.0, "score": np.nan, "few": False},
        {**base, **certain, "votes": 0.0, "score": 0.1, "few": False},
        {**base, **certain, "votes": 0.0, "score": np.nan, "few": False},
        {**base, **nothing, "votes": 20.0, "score": 0.1, "few": False},
        {**base, **nothing, "votes": 20.0, "score": 0.1, "few": True},
        {**base, **nothing, "votes": 20.0, "score": np.nan, "few": True},
        {**base, **nothing, "votes": 0.0, "score": 0.0, "few": True, "identical": True},
    ]
    result = with_verdicts(pd.DataFrame(rows), model())
    assert result.second.tolist() == ["certain", "", "", "", "", "", ""]
    assert result.chain.tolist() == ["certain", "certain", "", "", "doubtful", "", "certain"]
