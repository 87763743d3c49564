"""Lookup in shards, against a search in plain numpy through all codes at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from copywatch.features import lookup as module
from copywatch.features.extract import DetectedPoints
from copywatch.features.lookup import NO_HIT, Coarse, Lookup, Proposal, Queries, merged, shard_hits
from copywatch.features.manifest import Manifest, ShardFile, switch
from copywatch.features.shards import Shard
from copywatch.features.votes import Hits, candidates
from tests.features.index_data import detected, flipped, some_codes

TABLE = some_codes(16, 100)
IMAGES = {f"image-{n:02d}": some_codes(40, n) for n in range(30)}


def shards_of(images: dict[str, NDArray[np.uint8]], count: int) -> list[Shard]:
    """The images shared out in turns."""
    shards = [Shard.empty(TABLE) for _ in range(count)]
    for place, (name, codes) in enumerate(images.items()):
        shards[place % count].add([name], [codes.tobytes()])
    return shards


def found(shards: list[Shard], pictures: list[DetectedPoints], **options: float) -> list[list[Proposal]]:
    queries = Coarse(TABLE, probes=len(TABLE)).queries(pictures)
    return merged(queries, [shard_hits(shard, queries) for shard in shards], **options)  # type: ignore[arg-type]


def plain_hits(images: dict[str, NDArray[np.uint8]], codes: NDArray[np.uint8]) -> Hits:
    """Ten nearest of all codes, equal ones in their order; images by the place of their names."""
    every = np.concatenate(list(images.values()))
    names = sorted(images)
    owner = np.repeat([names.index(name) for name in images], [len(table) for table in images.values()])
    distances = np.bitwise_count(codes[:, np.newaxis] ^ every).sum(axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :10]
    return Hits(owner[nearest], np.take_along_axis(distances, nearest, axis=1).astype(np.int64))


def plain(images: dict[str, NDArray[np.uint8]], picture: DetectedPoints) -> list[Proposal]:
    hands = (plain_hits(images, picture.upright.codes), plain_hits(images, picture.mirrored.codes))
    return [Proposal(sorted(images)[one.image], one.votes, one.mirrored) for one in candidates(*hands)]


def pictures() -> list[DetectedPoints]:
    """Copies of several images at once, of many strengths, some mirrored; one of nothing; one without a point."""
    made = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        names = [f"image-{n:02d}" for n in rng.permutation(30)[:4]]
        hands = []
        for hand in range(2):
            parts = [
                flipped(IMAGES[name][: int(rng.integers(4, 40))], int(rng.integers(0, 45)), seed) for name in names
            ]
            hands.append(np.concatenate([some_codes(30, 1000 + 2 * seed + hand), *parts[2 * hand : 2 * hand + 2]]))
        count = min(map(len, hands))
        made.append(detected(hands[0][:count], hands[1][:count]))
    nothing = some_codes(0, 0)
    return [*made[:5], detected(nothing, nothing), *made[5:], detected(some_codes(50, 77), some_codes(50, 78))]


def same(ours: list[list[Proposal]], expected: list[list[Proposal]]) -> None:
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert [(proposal.protected_id, proposal.mirrored) for proposal in one] == [
            (proposal.protected_id, proposal.mirrored) for proposal in other
        ]
        assert [proposal.votes for proposal in one] == pytest.approx([proposal.votes for proposal in other])


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_any_number_of_shards_has_the_votes_of_one_exact_search(count: int) -> None:
    looked_up = pictures()
    expected = [plain(IMAGES, picture) for picture in looked_up]
    assert sum(map(len, expected)) > 15
    assert {proposal.mirrored for one in expected for proposal in one} == {True, False}
    same(found(shards_of(IMAGES, count), looked_up), expected)


def test_hits_of_few_points_are_left_out_and_their_distances_kept() -> None:
    """Nothing but those would tell another shard how near chance comes."""
    codes = some_codes(20, 50)
    near = Shard.empty(TABLE)
    near.add(["seven"], [flipped(codes[:7], 3, 1).tobytes()])
    queries = Coarse(TABLE, probes=len(TABLE)).queries([detected(codes, some_codes(20, 51))])
    hits = shard_hits(near, queries)
    assert hits.nearest.shape == (40, 10)
    # Each of the 40 points has hits of all seven codes, 280 of one image: they are kept, and the rest is NO_HIT.
    assert (hits.nearest[:, 7:] == NO_HIT).all()
    assert (hits.nearest[:7, 0] == 3).all()
    far = Shard.empty(TABLE)
    far.add([f"one-{n}" for n in range(300)], [some_codes(1, 5000 + n).tobytes() for n in range(300)])
    assert len(set(shard_hits(far, queries).protected_ids)) < 100
    assert (shard_hits(far, queries).nearest < NO_HIT).all()


def test_fewer_codes_than_neighbours() -> None:
    codes = some_codes(9, 60)
    images = {"b": flipped(codes, 4, 1), "a": some_codes(0, 0)}
    picture = detected(codes, some_codes(9, 61))
    expected = [plain(images, picture)]
    assert [one.protected_id for one in expected[0]] == ["b"]
    same(found(shards_of(images, 1), [picture]), expected)
    same(found(shards_of(images, 2), [picture]), expected)


def test_only_images_that_are_still_there_are_proposed() -> None:
    shards = shards_of(IMAGES, 3)
    picture = detected(flipped(IMAGES["image-04"], 5, 1), some_codes(40, 500))
    assert [one.protected_id for one in found(shards, [picture])[0]] == ["image-04"]
    for shard in shards:
        shard.remove(["image-04"])
    assert found(shards, [picture]) == [[]]


def test_bounds() -> None:
    pairs = {name: np.concatenate([codes, codes]) for name, codes in IMAGES.items()}
    picture = detected(np.concatenate([IMAGES[f"image-{n:02d}"][:12] for n in range(30)]), some_codes(360, 1))
    shards = shards_of(pairs, 4)
    assert len(found(shards, [picture])[0]) == 20
    assert [len(found(shards, [picture], most=3)[0]), found(shards, [picture], least=100)] == [3, [[]]]


def test_no_shard_and_no_picture() -> None:
    nothing = some_codes(0, 0)
    assert found([], pictures()[:2]) == [[], []]
    assert found(shards_of(IMAGES, 2), []) == []
    assert found(shards_of(IMAGES, 2), [detected(nothing, nothing)] * 3) == [[], [], []]
    assert found([Shard.empty(TABLE)], pictures()[:1]) == [[]]


def test_few_probes_search_the_nearest_lists_alone() -> None:
    """The oracle looks at the codes of those lists only."""
    codes = some_codes(25, 70)
    queries: Queries = Coarse(TABLE, probes=3).queries([detected(codes, codes)])
    order = np.argsort(np.bitwise_count(codes[:, np.newaxis] ^ TABLE).sum(axis=2), axis=1, kind="stable")[:, :3]
    apart = np.bitwise_count(codes[:, np.newaxis] ^ TABLE).sum(axis=2)
    np.testing.assert_array_equal(queries.distances[:25], np.take_along_axis(apart, order, axis=1))
    every = np.concatenate(list(IMAGES.values()))
    list_of = np.bitwise_count(every[:, np.newaxis] ^ TABLE).sum(axis=2)
    hits = shard_hits(shards_of(IMAGES, 1)[0], queries)
    for point in range(25):
        # Codes that are equally near to two centroids may lie in either list.
        surely = (list_of == list_of.min(axis=1)[:, np.newaxis])[:, queries.lists[point]].any(axis=1)
        only = surely & ~np.delete(list_of == list_of.min(axis=1)[:, np.newaxis], queries.lists[point], axis=1).any(1)
        distances = np.bitwise_count(every ^ codes[point]).sum(axis=1)
        nearest = hits.nearest[point][hits.nearest[point] != NO_HIT]
        assert (nearest >= np.sort(distances[surely])[: len(nearest)]).all()
        assert (nearest <= np.sort(distances[only])[: len(nearest)]).all() or len(nearest) > only.sum()


def test_the_index_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the shipped centroids, written, mapped, in several batches; near copies are found by few probes."""
    assert Lookup(tmp_path).proposals(pictures()[:1]) == [[]]
    files = {}
    for number, names in enumerate((["image-01", "image-02"], ["image-05"])):
        shard = Shard.empty()
        shard.add(names, [IMAGES[name].tobytes() for name in names])
        files[number] = ShardFile(shard.write(tmp_path, number), shard.images, shard.points)
    switch(tmp_path, Manifest(files))
    copies = [detected(flipped(IMAGES[name], 2, 1), some_codes(40, 9)) for name in ("image-05", "image-01", "image-07")]
    monkeypatch.setattr(module, "PICTURES_AT_ONCE", 2)
    proposals = Lookup(tmp_path).proposals(copies)
    assert [[one.protected_id for one in of_copy] for of_copy in proposals] == [["image-05"], ["image-01"], []]
    (tmp_path / f"{files[1].name}.ivf").unlink()
    assert [len(one) for one in Lookup(tmp_path).proposals(copies)] == [0, 1, 0]
