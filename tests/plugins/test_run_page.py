"""The page of a run's rows, from real Delta tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def write(table_name: str, rows: list[dict], run: str) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    from copywatch.lake.schemas import TABLES
    from copywatch.lake.tables import create_tables, table_url
    from copywatch.settings import settings

    create_tables(settings().warehouse)
    table = TABLES[table_name]
    complete = [dict.fromkeys(table.columns.names) | row | {"run": run} for row in rows]
    data = pa.Table.from_pylist(complete, schema=table.columns)
    write_deltalake(table_url(settings().warehouse, table), data, mode="append")


def sighting(number: int, **changed) -> dict:
    return {
        "sighting_id": f"{number:032x}",
        "site": "photo-community",
        "page_url": f"https://photos.example/{number}",
        "image_url": f"https://photos.example/{number}.jpg",
        "uploader": "Bob",
        "crawled_at": NOW,
        "sha256": "0" * 64,
        "fingerprint": b"secret-bytes",
        "algorithm": "mao/1",
        "tag": "animal",
        **changed,
    }


def test_shows_the_rows_of_this_run_only(client_of):
    run_id = "manual__2026-11-20T09:00:00+00:00"
    key = "manual__2026-11-20T09_00_00_00_00"
    write("seen", [sighting(1), sighting(2, uploader="<script>alert(1)</script>")], key)
    write("seen", [sighting(3)], "another")
    write("rejected", [{"site": "photo-community", "reason": "HTTP error", "http_status": 404, "tag": None}], key)
    for name in (run_id, key):
        html = client_of("VIEWER").get(f"/copywatch/runs/{name}").text
        assert "https://photos.example/1" in html
        assert "https://photos.example/3" not in html
        assert "HTTP error" in html
        assert "&lt;script&gt;" in html
        assert "<script>alert" not in html
        assert "secret-bytes" not in html


def test_says_what_verification_made_of_the_matches(client_of):
    pair = {"protected_id": "p" * 32, "distance": 0.1, "threshold": 0.2, "state": "doubtful"}
    words = ["certain", "certain", "different", None]
    rows = [sighting(n, verdict=1, verification=word, edit="mirrored", **pair) for n, word in enumerate(words)]
    write("matches", [*rows, sighting(9, verdict=0, **pair)], "run-1")
    html = client_of("VIEWER").get("/copywatch/runs/run-1").text
    assert '5</b> <span class="quiet">(1 identical, 2 certain, 1 different, 1 not verified)</span>' in html
    assert html.count("<td><bdi>mirrored</bdi></td>") == 4


def test_is_bounded_and_says_how_many_there_are(client_of):
    from copywatch_pages.run_page import SHOWN_ROWS

    write("seen", [sighting(number) for number in range(SHOWN_ROWS + 5)], "run-1")
    html = client_of("VIEWER").get("/copywatch/runs/run-1").text
    assert html.count("<tr>") == SHOWN_ROWS + 1
    assert f"The first {SHOWN_ROWS} of {SHOWN_ROWS + 5} rows" in html


def test_without_any_table_it_is_empty(client_of):
    answer = client_of("VIEWER").get("/copywatch/runs/run-1")
    assert answer.status_code == 200
    assert "has written no rows" in answer.text


@pytest.mark.parametrize("run", ["x' OR '1'='1", "a/b", "..", "%00", "x" * 3000])
def test_a_strange_run_is_no_run(client_of, run):
    write("seen", [sighting(1)], "run-1")
    answer = client_of("VIEWER").get(f"/copywatch/runs/{run}")
    assert answer.status_code in {200, 404}
    assert "photos.example" not in answer.text


def test_a_broken_table_does_not_take_the_page_with_it(client_of):
    from pathlib import Path

    from copywatch.settings import settings

    write("seen", [sighting(1)], "run-1")
    for part in (Path(settings().warehouse) / "seen").rglob("*.parquet"):
        part.write_bytes(b"broken")
    write("rejected", [{"site": "photo-community", "reason": "HTTP error"}], "run-1")
    html = client_of("VIEWER").get("/copywatch/runs/run-1").text
    assert "cannot be read" in html
    assert "HTTP error" in html


def test_shows_what_people_and_the_outbox_did(plant, client_of):
    plant(protected_filename="dome.png")
    html = client_of("VIEWER").get("/copywatch/runs/run-1").text
    assert "dome.png" in html
    assert "pending" in html
