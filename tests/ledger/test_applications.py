"""Applications for protection: what is accepted, what is refused and why, and that a retry changes nothing."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from copywatch.demo.edits import BROKEN, ODD_FORMATS
from copywatch.demo.planting import photo_bytes
from copywatch.errors import CopywatchError
from copywatch.images import ImageStore
from copywatch.lake.identity import protected_id
from copywatch.ledger import applications
from copywatch.ledger.database import session
from copywatch.ledger.models import Application, ApplicationState, Owner
from copywatch.settings import Settings

pytestmark = pytest.mark.integration

Intake = Callable[..., Path]
Apply = Callable[..., list[tuple[str, str, str | None]]]


def all_rows() -> list[tuple[Any, ...]]:
    with session() as opened:
        rows = opened.scalars(select(Application).order_by(Application.id)).all()
        return [
            (row.id, row.filename, row.sha256, row.state, row.reason, row.protected_id, row.storage_address)
            for row in rows
        ]


class TestOwner:
    def test_one_address_is_one_owner_however_it_is_written(self, ledger_url: str):
        with session() as opened:
            first = applications.owner_by_email(opened, "Ada@Owners.Example", " Ada ")
            assert applications.owner_by_email(opened, "  ada@owners.example ").id == first.id
            assert (first.email, first.name) == ("ada@owners.example", "Ada")
            assert len(opened.scalars(select(Owner)).all()) == 1

    @pytest.mark.parametrize(
        "email",
        [
            "", "ada", "@owners.example", "ada@", "a da@owners.example", "ada@owners.example\nBcc: x@y.example",
            "ada@own\x00ers.example", "a" * 320 + "@x.example", "ada,eve@owners.example", "ada@eve@owners.example",
            "<ada@owners.example>", "ada@owners.example>", "ada@owners.example,eve@x.example", "ada@[", "\u202ea@b.c",
            "(ada@owners.example", "a..b@owners.example", "ä@owners.example",
        ],
    )  # fmt: skip
    def test_what_no_mail_can_be_sent_to_is_refused(self, ledger_url: str, email: str):
        with session() as opened, pytest.raises(CopywatchError, match="no mail address"):
            applications.owner_by_email(opened, email)

    @pytest.mark.parametrize("email", ["a@b.example", "o'hara+x@b.example", "first.last@localhost"])
    def test_what_mail_can_be_sent_to_is_taken(self, ledger_url: str, email: str):
        with session() as opened:
            assert applications.owner_by_email(opened, email).email == email


class TestFilesOfIntake:
    def test_lists_a_folder_with_its_sub_folders(self, tmp_path: Path):
        for name in ("ada/b.jpg", "ada/more/a.jpg", "ada/.hidden", "eve/c.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = applications.files_of_intake(tmp_path, "ada")
        assert [str(path.relative_to(tmp_path)) for path in found] == ["ada/b.jpg", "ada/more/a.jpg"]

    @pytest.mark.parametrize("folder", ["..", "../elsewhere", "/etc", "ada/../../elsewhere"])
    def test_no_folder_leads_out(self, tmp_path: Path, folder: str):
        (tmp_path / "intake" / "ada").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        with pytest.raises(CopywatchError, match="leads out of"):
            applications.files_of_intake(tmp_path / "intake", folder)

    def test_no_link_leads_out(self, tmp_path: Path):
        root = tmp_path / "intake" / "ada"
        root.mkdir(parents=True)
        (tmp_path / "secret.jpg").touch()
        (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        (root / "own.jpg").touch()
        assert [path.name for path in applications.files_of_intake(tmp_path / "intake", "ada")] == ["own.jpg"]
        (tmp_path / "intake" / "out").symlink_to(tmp_path)
        with pytest.raises(CopywatchError, match="leads out of"):
            applications.files_of_intake(tmp_path / "intake", "out")

    def test_a_missing_and_a_too_large_folder_are_named(self, tmp_path: Path):
        with pytest.raises(CopywatchError, match="'ada' is no folder"):
            applications.files_of_intake(tmp_path, "ada")
        (tmp_path / "ada").mkdir()
        for number in range(3):
            (tmp_path / "ada" / str(number)).touch()
        with pytest.raises(CopywatchError, match="holds 3 files, at most 2"):
            applications.files_of_intake(tmp_path, "ada", limit=2)


class TestReceive:
    def test_an_image_is_accepted_and_its_original_kept(
        self, intake: Intake, apply_for: Apply, picture: Any, store: ImageStore
    ):
        data = picture(1)
        assert apply_for(intake(**{"a.jpg": data})) == [("a.jpg", "received", None)]
        with session() as opened:
            (row,) = opened.scalars(select(Application))
            assert row.sha256 == hashlib.sha256(data).hexdigest()
            assert row.protected_id == protected_id(str(row.owner_id), row.sha256)
            assert store.get(str(row.storage_address)) == data

    def test_unusable_files_are_refused_each_with_its_reason(self, intake: Intake, apply_for: Apply):
        files = {f"{edit.name}{edit.extension}": edit.apply(photo_bytes("06.jpg")) for edit in (*BROKEN, *ODD_FORMATS)}
        reasons = {f"{edit.name}{edit.extension}": edit.reason for edit in (*BROKEN, *ODD_FORMATS)}
        received = apply_for(intake(**files))
        assert {name for name, _, _ in received} == set(files)
        for name, state, said in received:
            reason = reasons[name]
            assert state == ("refused" if reason else "received"), name
            assert (said or "").startswith(reason.value if reason else ""), name

    def test_a_large_file_is_refused_unread(
        self, intake: Intake, picture: Any, store: ImageStore, config: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        root = intake(**{"large.jpg": picture(1)})
        small = config.model_copy(update={"max_image_bytes": 100})
        monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
        with session() as opened:
            owner = applications.owner_by_email(opened, "ada@owners.example")
            (row,) = applications.receive(
                opened, run="r", owner=owner, files=[root / "large.jpg"], root=root, store=store, config=small
            )
            assert row.state == ApplicationState.REFUSED
            assert str(row.reason).startswith("too many bytes")

    def test_a_file_that_vanishes_is_refused_and_the_rest_goes_on(
        self, intake: Intake, picture: Any, store: ImageStore, config: Settings
    ):
        root = intake(**{"b.jpg": picture(1)})
        with session() as opened:
            owner = applications.owner_by_email(opened, "ada@owners.example")
            files = [root / "a.jpg", root / "b.jpg"]
            rows = applications.receive(
                opened, run="r", owner=owner, files=files, root=root, store=store, config=config
            )
            assert [(row.filename, row.state) for row in rows] == [("a.jpg", "refused"), ("b.jpg", "received")]

    def test_a_name_that_is_no_text_does_not_stop_the_others(self, intake: Intake, apply_for: Apply, picture: Any):
        root = intake(**{"a.jpg": picture(1)})
        (root / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(picture(2))
        received = apply_for(root)
        assert [state for _, state, _ in received] == ["received", "received"]
        assert apply_for(root) == received

    def test_two_long_names_that_end_alike_are_two(self, intake: Intake, apply_for: Apply, picture: Any):
        root = intake()
        for number in (1, 2):
            folder = root / f"{number}{'d' * 200}" / ("e" * 200)
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(picture(number))
        assert [state for _, state, _ in apply_for(root)] == ["received", "received"]

    def test_the_same_run_again_changes_nothing(self, intake: Intake, apply_for: Apply, picture: Any):
        root = intake(**{"a.jpg": picture(1), "copy-of-a.jpg": picture(1), "broken.jpg": b"<html>"})
        first = apply_for(root)
        before = all_rows()
        assert apply_for(root) == first
        assert all_rows() == before
        assert [state for _, state, _ in first] == ["received", "refused", "refused"]

    def test_what_is_protected_already_is_refused_and_says_since_when(
        self, intake: Intake, apply_for: Apply, picture: Any
    ):
        apply_for(intake(**{"a.jpg": picture(1)}), "run-1", "ada@owners.example")
        ((_, mine, why_mine),) = apply_for(intake("again", **{"b.jpg": picture(1)}), "run-2", "ada@owners.example")
        ((_, others, why_others),) = apply_for(intake("eve", **{"c.jpg": picture(1)}), "run-3", "eve@owners.example")
        assert (mine, others) == ("refused", "refused")
        assert str(why_mine).startswith("already protected by you, since 20")
        assert str(why_others).startswith("already protected by another owner, since 20")

    def test_a_refused_file_does_not_block_its_bytes(self, intake: Intake, apply_for: Apply, picture: Any):
        apply_for(intake(**{"a.jpg": picture(1)}), "run-1")
        apply_for(intake("eve", **{"a.jpg": picture(1)}), "run-2", "eve@owners.example")
        with session() as opened:
            for row in opened.scalars(select(Application)):
                row.state = ApplicationState.REFUSED
        ((_, state, _),) = apply_for(intake("otto", **{"a.jpg": picture(1)}), "run-3", "otto@owners.example")
        assert state == "received"


def _apply_in_process(number: int, root: str, gate: Any, answers: Any) -> None:
    from copywatch.images import image_store
    from copywatch.settings import settings

    with session() as opened:
        owner = applications.owner_by_email(opened, f"owner{number}@owners.example")
        gate.wait(30)
        rows = applications.receive(
            opened, run=f"run-{number}", owner=owner, files=sorted(Path(root).iterdir()), root=Path(root),
            store=image_store(), config=settings(),
        )  # fmt: skip
        answers.put([(row.filename, row.state) for row in rows])


def test_two_processes_that_receive_the_same_image_at_once_accept_it_once(intake: Intake, picture: Any):
    root = intake(**{f"{number}.jpg": picture(number) for number in range(4)})
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_apply_in_process, args=(number, str(root), gate, answers)) for number in (1, 2)
    ]
    for process in processes:
        process.start()
    states = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    for number in range(4):
        assert sorted(dict(answer)[f"{number}.jpg"] for answer in states) == ["received", "refused"]


class TestAfterwards:
    def test_intake_rows_are_all_of_the_run_that_were_not_refused(
        self, intake: Intake, apply_for: Apply, picture: Any, store: ImageStore
    ):
        """Protected ones too: the run's rows in the lake are replaced as a whole."""
        apply_for(intake(**{"a.jpg": picture(1), "b.jpg": picture(2), "bad.jpg": b"x"}), "run-1")
        apply_for(intake("eve", **{"c.jpg": picture(3)}), "run-2")
        with session() as opened:
            rows = list(applications.intake_rows(opened, "run-1", store))
            assert [row["bytes"] for row in rows] == [picture(1), picture(2)]
            written = pa.table({"application_id": [row["application_id"] for row in rows]})
            assert len(applications.mark_protected(opened, "run-1", written)) == 2
        with session() as opened:
            assert list(applications.intake_rows(opened, "run-1", store)) == rows

    def test_marking_protects_what_is_in_the_lake(self, intake: Intake, apply_for: Apply, picture: Any):
        apply_for(intake(**{"a.jpg": picture(1), "b.jpg": picture(2)}), "run-1")
        apply_for(intake("eve", **{"c.jpg": picture(3)}), "run-2")
        with session() as opened:
            first, _ = applications.waiting(opened, "run-1")
            written = pa.table({"application_id": [first.id]})
            assert [one.filename for one in applications.mark_protected(opened, "run-1", written)] == ["a.jpg"]
        with session() as opened:
            assert applications.mark_protected(opened, "run-1", written) == []
            states = {one.filename: (one.state, one.reason) for one in applications.of_run(opened, "run-1")}
            (others,) = applications.of_run(opened, "run-2")
        assert states["a.jpg"] == ("protected", None)
        # The job is over and its row is not there: it will not come.
        assert states["b.jpg"][0] == "refused"
        assert "could not be fingerprinted" in str(states["b.jpg"][1])
        assert others.state == "received"

    def test_other_tables_are_refused(self, ledger_url: str):
        with session() as opened, pytest.raises(CopywatchError, match="application_id"):
            applications.mark_protected(opened, "run-1", pa.table({"sighting_id": ["x"]}))
