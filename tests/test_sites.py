"""The sites file: what is wrong is told with its line, and nothing else is ever raised."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copywatch.crawl import site_as_json
from copywatch.errors import SitesFileError
from copywatch.sites import Site, Sites, load_sites, site_of_address

EXAMPLE = Path(__file__).resolve().parents[1] / "sites.example.yaml"


def load(folder: Path, text: str | bytes) -> Sites:
    path = folder / "sites.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_sites(path)


def test_example_is_right_and_names_every_field() -> None:
    sites = load_sites(EXAMPLE)
    assert [site.name for site in sites.enabled] == ["photo-community", "picture-market", "news"]
    assert sites.shortest_interval == timedelta(hours=6)
    text = EXAMPLE.read_text()
    assert all(f"{name}:" in text for name in [*Site.model_fields, *sites.sites[0].select.model_fields_set])


def test_a_site_survives_the_way_to_the_crawl() -> None:
    for site in load_sites(EXAMPLE).sites:
        assert Site.model_validate(site_as_json(site)) == site


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "begins with 'sites:'"),
        ("- a\n- b\n", 1, "begins with 'sites:'"),
        ("sites: []\n", 1, "at least 1"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    evry: 1d\n", 4, "evry"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    every: soon\n", 4, "30m, 6h, 1d"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    every: 0h\n", 4, "30m, 6h, 1d"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    every: 99999999999999d\n", 4, "30m, 6h, 1d"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    every: 6\n", 4, "30m, 6h, 1d"),
        ("sites:\n  - name: a\n    start: ftp://a.example/\n", 3, "no web address"),
        ("sites:\n  - name: a\n    start:\n      - http://a.example/\n      - 'http://[oops'\n", 5, "no web address"),
        ("sites:\n  - name: a\n    start: http://a.example:99999/\n", 3, "no web address"),
        ("sites:\n  - name: a\n    start: http://me:secret@a.example/\n", 3, "user name"),
        ("sites:\n  - name: a b\n    start: http://a.example/\n", 2, "name"),
        ("sites:\n  - start: http://a.example/\n", 2, "name"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    max_pages: 0\n", 4, "max_pages"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    select:\n      item: 'div >'\n", 5, "no CSS selector"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    select:\n      image:\n        - a::x\n", 6, "CSS"),
        ("sites:\n  - name: a\n    start: http://a.example/\n    image_hosts: ['http://x/']\n", 4, "no host"),
        ("sites:\n  - name: a\n    start: http://a.example/\n   oops: [\n", 4, "no YAML"),
        ("sites:\n  - name: a\n    name: b\n    start: http://a.example/\n", 3, "no YAML"),
        ("sites:\n\t- name: a\n", 2, "no YAML"),
        ("sites: &x\n  - *y\n", 2, "no YAML"),
        ("sites: 2024-99-99\n", 1, "no YAML|sites"),
        ("sites:\n  - 5\n", 2, "sites.0"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(SitesFileError, match=words) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'sites.yaml'}:{line}: ")


def test_two_mistakes_are_both_told(tmp_path: Path) -> None:
    with pytest.raises(SitesFileError) as raised:
        load(tmp_path, "sites:\n  - name: A\n    start: x\n")
    assert [part.split(":")[1] for part in str(raised.value).splitlines()] == ["2", "3"]


def test_two_sites_of_one_name(tmp_path: Path) -> None:
    site = "  - name: a\n    start: http://a.example/\n"
    with pytest.raises(SitesFileError, match="two sites are named a"):
        load(tmp_path, "sites:\n" + site + site)


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(SitesFileError, match=r"sites\.example\.yaml"):
        load_sites(tmp_path / "none.yaml")
    with pytest.raises(SitesFileError, match="cannot be read"):
        load_sites(tmp_path)
    with pytest.raises(SitesFileError, match="cannot be read"):
        load(tmp_path, b"\xff\xfe\xff")
    with pytest.raises(SitesFileError, match="no YAML"):
        load(tmp_path, "sites: \x00\n")
    with pytest.raises(SitesFileError, match="no YAML"):
        load(tmp_path, "[" * 1200)


def test_named() -> None:
    sites = load_sites(EXAMPLE)
    assert [site.name for site in sites.named(["news", "photo-community"])] == ["photo-community", "news"]
    with pytest.raises(SitesFileError, match="no site is named nothing"):
        sites.named(["nothing"])


FIELDS = st.sampled_from([*Site.model_fields, "item", "x", "<<", "? ", "!!python/name:os.system ", "&a ", "*a"])
VALUES = st.one_of(
    st.sampled_from(["http://a.example/", "http://[", "1d", "0d", "a", "[]", "{}", "*a", "&a b", "!!int x", "!!float .",
                     "!!timestamp 2024-99-99", "!!binary x", "0o9", "1e999", "|\n", "'", "[[", "2001-02-30",
                     "~", "- -"]),
    st.text(max_size=12),
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(st.tuples(FIELDS, VALUES), max_size=6)))
def test_any_text_is_sites_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, drawn: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    if isinstance(drawn, list):
        drawn = "sites:\n  -" + "".join(f"    {name}: {value}\n" for name, value in drawn)[3:]
    text = str(drawn).encode("utf-8", "surrogatepass")
    try:
        sites = load(folder, text)
    except SitesFileError as error:
        told = str(error)
    else:
        told = f"{folder / 'sites.yaml'}:{sites.sites[0].name}"
    assert told.startswith(f"{folder / 'sites.yaml'}:")


@given(st.text(max_size=60))
def test_any_address_is_a_site_or_an_error_of_ours(text: str) -> None:
    for address in (text, f"http://{text}", f"https://{text}/x"):
        try:
            site = site_of_address(address)
        except SitesFileError:
            continue
        assert site.kind == "auto"
        assert site.hosts
