"""An evaluation for people at a terminal."""

from __future__ import annotations

from copywatch.evaluation.evaluate import Evaluation
from copywatch.evaluation.judge import Counts
from copywatch.hostile_text import plain
from copywatch.logs import table

_MOST_UNUSABLE = 10


def report(found: Evaluation) -> str:
    """What was measured, as text: what was wrong and by which threshold, each edit's counts, unusable images."""
    precision = "no image was taken for a copy" if found.precision is None else f"precision {found.precision:.4f}"
    lines = [
        f"wrong: {found.wrong_certain} taken for certain, {found.wrong_review} sent to review; {precision}",
        f"pairs: {found.pairs:,} (every detected image with every protected one, under whatever tags)",
        f"threshold: {found.threshold.value:.4f} ({found.algorithm}, {found.rule}). {found.threshold.source}",
        f"{found.seconds:.1f} s, {found.images / found.seconds:.1f} images/s",
    ]
    if found.edits:
        lines += ["", table([_row(one) for one in (*found.edits, found.total)])]
    else:
        lines.append("copies: none, by the truth file")
    if found.unnamed:
        lines += [
            "",
            f"left out: {len(found.unnamed)} detected files that the truth file does not name, such as "
            f"{plain(found.unnamed[0])}",
        ]
    if found.unusable:
        lines += ["", f"unusable: {len(found.unusable)} images"]
        lines += [f"  {plain(one['file'])}: {plain(one['reason'])}" for one in found.unusable[:_MOST_UNUSABLE]]
        if len(found.unusable) > _MOST_UNUSABLE:
            lines.append(f"  and {len(found.unusable) - _MOST_UNUSABLE} more, which --json names")
    return "\n".join(lines)


def _row(counts: Counts) -> dict[str, object]:
    return {
        "edit": plain(counts.edit) or "(not named)",
        "copies": counts.copies,
        "found": counts.found,
        "certain": counts.certain,
        "rank1": counts.rank1,
        "found %": f"{100 * counts.found / counts.copies:.1f}",
    }
