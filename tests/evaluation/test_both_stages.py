"""What the second stage adds to an evaluation, against a truth that was counted by hand."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from copywatch.demo.planting import photo_bytes
from copywatch.evaluation.evaluate import Evaluation, evaluate
from copywatch.evaluation.judge import Wrong
from copywatch.rule import Rule
from copywatch.settings import Settings
from tests.evaluation.conftest import Case, jpeg


def measured(case: Case, config: Settings, **options: object) -> Evaluation:
    return evaluate(case.protected, case.detected, case.truth, config=config, processes=1, **options)  # type: ignore[arg-type]


def opened(name: str) -> Image.Image:
    return Image.open(BytesIO(photo_bytes(name))).convert("RGB")


def test_a_part_is_found_and_what_is_found_is_certain(known: Case, config: Settings, both_stages: Settings) -> None:
    """By the first stage alone the part is missed, and only the same file is certain."""
    photo = opened("02.jpg")
    part = photo.crop((photo.width // 4, 0, photo.width * 9 // 10, photo.height * 6 // 10))
    (known.detected / "f.jpg").write_bytes(jpeg(part))
    one_stage = measured(known, config)
    assert (one_stage.total.found, one_stage.total.certain) == (5, 1)
    found = measured(known, both_stages)
    by_edit = {one.edit: (one.copies, one.found, one.certain, one.rank1) for one in found.edits}
    assert by_edit == {
        "same file": (1, 1, 1, 1),
        "sepia": (2, 2, 2, 2),
        "turned": (2, 2, 2, 2),
        "cut to a corner": (1, 1, 1, 1),
    }
    assert (found.wrong_certain, found.wrong_review, found.cases) == (0, 0, [])


def test_a_collage_is_found_by_each_of_its_pictures(case: Case, both_stages: Settings) -> None:
    for name in ("01.jpg", "02.jpg", "03.jpg"):
        (case.protected / name).write_bytes(photo_bytes(name))
    beside = Image.new("RGB", (1024, 512))
    for place, name in enumerate(("01.jpg", "02.jpg")):
        beside.paste(opened(name).resize((512, 341)), (512 * place, 80))
    (case.detected / "collage.jpg").write_bytes(jpeg(beside))
    case.write([("collage.jpg", "01.jpg", "collage"), ("collage.jpg", "02.jpg", "collage")])
    both = measured(case, both_stages)
    assert (both.total.found, both.wrong_certain, both.wrong_review) == (1, 0, 0)
    # It shows two: to whom only one of them is right, the other is a false alarm.
    case.write([("collage.jpg", "02.jpg", "collage")])
    one = measured(case, both_stages)
    assert (one.total.found, one.wrong_certain) == (1, 1)
    assert [(wrong.wrong, wrong.protected) for wrong in one.cases] == [(Wrong.CERTAIN, "01.jpg")]
    case.write([("collage.jpg", "03.jpg", "collage")])
    none = measured(case, both_stages)
    assert (none.total.found, none.wrong_certain) == (0, 1)


def test_verification_takes_back_what_a_wide_threshold_lets_in(
    known: Case, config: Settings, both_stages: Settings
) -> None:
    wide = measured(known, config, rule=Rule.PAPER, threshold=0.9)
    assert wide.wrong_review >= 2
    verified = measured(known, both_stages, rule=Rule.PAPER, threshold=0.9)
    assert (verified.wrong_certain, verified.wrong_review) == (0, 0)
    assert verified.total.found == wide.total.found
