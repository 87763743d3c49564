"""The picture of a calibration: SRPITP's Figure 3, with the tail to be seen."""

from __future__ import annotations

import io
from statistics import NormalDist

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from copywatch.matching.calibration import BINS, Calibration

_WIDTH, _HEIGHT, _DOTS = 10.0, 5.2, 100
"""Inches, and dots an inch: 1000 x 520 pixels."""

_BARS, _FIT, _NORMAL, _TAIL = "#9db8cf", "#1c2024", "#b3382c", "#1f7a45"


def plot(calibration: Calibration, *, algorithm: str, rule: str) -> bytes:
    """A PNG of 1000 x 520 pixels: histogram on a logarithmic axis, normal fit, both thresholds.

    Args:
        calibration: what was measured.
        algorithm: identity of the fingerprint, for the title.
        rule: how the distance was measured, likewise.
    """
    # Not pyplot: it keeps every figure, and Spark's and Airflow's processes draw in threads.
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.arange(BINS + 1) / BINS
    axes.stairs(calibration.histogram, edges, fill=True, color=_BARS, label="pairs, in bins of 1/200")
    if calibration.deviation > 0:
        fit = NormalDist(calibration.mean, calibration.deviation)
        expected = calibration.pairs * np.diff([fit.cdf(float(edge)) for edge in edges])
        axes.plot(
            edges[:-1] + 0.5 / BINS,
            expected,
            color=_FIT,
            linewidth=1.4,
            label=f"normal fit: mean {calibration.mean:.4f}, deviation {calibration.deviation:.4f}",
        )
    for threshold, within, colour, style, name in (
        (calibration.normal_threshold, calibration.normal_within, _NORMAL, "--", "Formula (3)"),
        (calibration.tail_threshold, calibration.tail_within, _TAIL, "-", "measured tail"),
    ):
        label = f"{name}: Th = {threshold:.4f}, {within:,} {'pair' if within == 1 else 'pairs'} within"
        axes.axvline(threshold, color=colour, linestyle=style, linewidth=1.6, label=label)
    axes.set_yscale("log")
    axes.set_ylim(0.5, max(2.0, max(calibration.histogram) * 2))
    filled = np.flatnonzero(calibration.histogram)
    farthest_left = min(calibration.normal_threshold, calibration.tail_threshold, float(edges[filled[0]]))
    axes.set_xlim(max(0.0, farthest_left - 0.05), min(1.0, float(edges[filled[-1] + 1]) + 0.05))
    axes.set_xlabel("distance of two different images")
    axes.set_ylabel("pairs, logarithmic")
    axes.set_title(
        f"{algorithm}, {rule}: {calibration.images:,} images, {calibration.pairs:,} pairs, "
        f"thresholds for a rate of {calibration.rate:g}",
        fontsize=12,
    )
    axes.grid(axis="y", color="#dde1e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", fontsize=9, framealpha=0.95)
    out = io.BytesIO()
    # Without the date and version that matplotlib would write, a retry makes the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
