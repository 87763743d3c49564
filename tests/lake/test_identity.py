"""Names of rows: the same on every retry, different for different things."""

from __future__ import annotations

import hashlib
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from copywatch.lake.identity import protected_id, run_key, sighting_id

texts = st.text(max_size=20)
names = st.text(st.characters(exclude_characters="\x1f"), max_size=20)


@given(site=names, page=names, image=names, sha=names)
def test_a_sighting_is_named_by_what_it_is_made_of(site, page, image, sha):
    name = sighting_id(site, page, image, sha)
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    joined = "\x1f".join(["sighting", site, page, image, sha]).encode("utf-8", "surrogatepass")
    assert name == hashlib.sha256(joined).hexdigest()[:32]


@given(one=st.tuples(names, names, names, names), other=st.tuples(names, names, names, names))
def test_different_sightings_have_different_names(one, other):
    """Also where one's parts, put together, read as the other's."""
    assume(one != other)
    assert sighting_id(*one) != sighting_id(*other)


def test_parts_do_not_run_into_each_other():
    assert sighting_id("a", "bc", "d", "e") != sighting_id("ab", "c", "d", "e")
    assert protected_id("1", "23") != protected_id("12", "3")
    assert protected_id("a", "b") != sighting_id("a", "b", "", "")


@given(one=st.tuples(names, names), other=st.tuples(names, names))
def test_owners_and_pictures_name_a_protected_image(one, other):
    assert (protected_id(*one) == protected_id(*other)) is (one == other)


@given(run=texts)
def test_a_runs_key_is_safe_anywhere_and_settled(run):
    key = run_key(run)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{0,200}", key)
    assert not key.startswith(".")
    assert run_key(key) == key


def test_a_long_runs_key_is_settled_too():
    key = run_key("a" * 199 + ".b")
    assert key == "a" * 199
    assert run_key(key) == key


@given(run=st.from_regex(r"[a-z0-9_]{1,40}", fullmatch=True))
def test_a_plain_name_is_its_own_key(run):
    assert run_key(run) == run


def test_runs_as_airflow_names_them():
    assert run_key("scheduled__2026-11-21T08:00:00+00:00") == "scheduled__2026-11-21T08_00_00_00_00"
    assert run_key("../../etc") == "_.._etc"
    assert len(run_key("x" * 300)) == 200
