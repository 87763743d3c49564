"""Truth files as people and machines write them, and as nobody should."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from copywatch.errors import EvaluationError
from copywatch.evaluation.truth import Entry, Folder, read_truth
from tests.evaluation.conftest import written


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Folder, Folder]:
    """Detected: a.jpg, sub/b.jpg, grün.jpg. Protected: p.jpg, q.jpg."""
    for name in ("detected/a.jpg", "detected/sub/b.jpg", "detected/grün.jpg", "protected/p.jpg", "protected/q.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    truth = tmp_path / "truth.csv"
    return Folder.of(tmp_path / "detected", without=truth), Folder.of(tmp_path / "protected", without=truth)


def read(tmp_path: Path, folders: tuple[Folder, Folder], data: bytes) -> dict[str, Entry]:
    """Read these bytes as the truth file."""
    (tmp_path / "truth.csv").write_bytes(data)
    return read_truth(tmp_path / "truth.csv", detected=folders[0], protected=folders[1])


GOOD = "detected,protected,edit\na.jpg,p.jpg,crop\na.jpg,q.jpg,crop\nsub/b.jpg,,\n"
MEANS = {"a.jpg": Entry("crop", frozenset({"p.jpg", "q.jpg"})), "sub/b.jpg": Entry("", frozenset())}


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace("detected,protected", " Detected ,PROTECTED").encode(),
        GOOD.replace("a.jpg", "./a.jpg").replace(",p.jpg", ", p.jpg").encode() + b"\n,,\n\n",
        b"note,edit,protected,detected\nx,crop,p.jpg,a.jpg\n,crop,q.jpg,a.jpg\n,,,sub/b.jpg\n",
    ],
    ids=["plain", "bom", "crlf", "semicolons", "tabs", "header", "dot, blanks", "order"],
)
def test_spreadsheets_are_read(tmp_path: Path, folders: tuple[Folder, Folder], data: bytes) -> None:
    """Each means the same."""
    assert read(tmp_path, folders, data) == MEANS


def test_edit_may_be_left_out(tmp_path: Path, folders: tuple[Folder, Folder]) -> None:
    """Then no edit has a name."""
    found = read(tmp_path, folders, b"detected,protected\na.jpg,p.jpg\n")
    assert found == {"a.jpg": Entry("", frozenset({"p.jpg"}))}


def test_names_in_the_other_unicode_form_are_found(tmp_path: Path, folders: tuple[Folder, Folder]) -> None:
    """A Mac writes ü as two signs."""
    name = unicodedata.normalize("NFD", "grün.jpg")
    assert name != "grün.jpg"
    assert set(read(tmp_path, folders, f"detected,protected\n{name},p.jpg\n".encode())) == {"grün.jpg"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "1: no column is called 'detected'"),
        (b"detected,edit\na.jpg,crop\n", "1: no column is called 'protected'"),
        (b"detected,protected,detected\na.jpg,p.jpg,a.jpg\n", "1: two columns are called 'detected'"),
        (b"detected,protected\n", "no row"),
        (b"detected,protected\na.jpg,p.jpg\nnone.jpg,p.jpg\n", "3: detected: none.jpg is not in"),
        (b"detected,protected\na.jpg,none.jpg\n", "2: protected: none.jpg is not in"),
        (b"detected,protected\na.jpg,../protected/p.jpg\n", "2: protected: ../protected/p.jpg leads out"),
        (b"detected,protected\nsub/../a.jpg,p.jpg\n", "2: detected: sub/../a.jpg leads out"),
        (b"detected,protected\n/etc/passwd,p.jpg\n", "2: detected: /etc/passwd leads out"),
        (b"detected,protected\na\x00.jpg,p.jpg\n", "truth.csv:"),
        (b"detected,protected\na.jpg,p.jpg\n\na.jpg,p.jpg\n", "4: repeats line 2"),
        (b"detected,protected\na.jpg,p.jpg\n./a.jpg,p.jpg\n", "3: repeats line 2"),
        (b"detected,protected\na.jpg,\na.jpg,p.jpg\n", "3: a.jpg is a copy on one of the lines 2 and 3"),
        (
            b"detected,protected,edit\na.jpg,p.jpg,x\na.jpg,q.jpg,y\n",
            "3: a.jpg has the edit 'y' here and 'x' in line 2",
        ),
        (b"detected,protected\n,p.jpg\n", "2: the column detected is empty"),
        ("detected,protected\ngrün.jpg,p.jpg\n".encode("latin-1"), "not UTF-8 (byte 0xfc)"),
        ("detected,protected\na.jpg,p.jpg\n".encode("utf-16"), "not UTF-8 (byte 0xff)"),
        (b'detected,protected\n"a.jpg"x,p.jpg\n', "2: no CSV"),
        (b"detected,protected\n" + b"a" * 200_000 + b",p.jpg\n", "no CSV: field larger"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, folders: tuple[Folder, Folder], data: bytes, says: str
) -> None:
    """And what was wrong."""
    with pytest.raises(EvaluationError) as raised:
        read(tmp_path, folders, data)
    assert str(raised.value).startswith(f"{tmp_path / 'truth.csv'}:")
    assert says in str(raised.value)


def test_many_mistakes_are_told_together(tmp_path: Path, folders: tuple[Folder, Folder]) -> None:
    """Ten, and how many more there are."""
    lines = "".join(f"none{number}.jpg,\n" for number in range(25))
    with pytest.raises(EvaluationError) as raised:
        read(tmp_path, folders, f"detected,protected\n{lines}".encode())
    told = str(raised.value).splitlines()
    assert len(told) == 11
    assert told[-1] == "and 15 lines more"


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    """Neither to files nor to folders; links inside it are files."""
    outside, inside = tmp_path / "secret", tmp_path / "protected"
    for folder in (outside, inside):
        folder.mkdir()
        (folder / "p.jpg").write_bytes(b"x")
    (inside / "out.jpg").symlink_to(outside / "p.jpg")
    (inside / "outside").symlink_to(outside)
    (inside / "twin.jpg").symlink_to("p.jpg")
    (inside / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(inside / "pipe.jpg")
    folder = Folder.of(inside, without=tmp_path / "truth.csv")
    assert folder.names == ("p.jpg", "twin.jpg")
    assert folder.outside == ("out.jpg",)
    written(tmp_path / "truth.csv", [("out.jpg", "p.jpg", "")])
    with pytest.raises(EvaluationError, match=r"2: detected: out\.jpg is a link that leads out of"):
        read_truth(tmp_path / "truth.csv", detected=folder, protected=folder)


def test_what_is_no_image_of_the_user_is_not_listed(tmp_path: Path) -> None:
    """Hidden files, Windows' own, and the truth file itself."""
    for name in ("p.jpg", ".DS_Store", "Thumbs.db", "truth.csv", ".git/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert Folder.of(tmp_path, without=tmp_path / "truth.csv").names == ("p.jpg",)


def test_an_empty_or_missing_folder_is_told(tmp_path: Path) -> None:
    """With its name."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(EvaluationError, match=str(folder)):
            Folder.of(folder, without=tmp_path / "truth.csv")
    (tmp_path / "a").write_bytes(b"x")
    folder = Folder.of(tmp_path, without=tmp_path / "truth.csv")
    with pytest.raises(EvaluationError, match="there is no such file"):
        read_truth(tmp_path / "truth.csv", detected=folder, protected=folder)
