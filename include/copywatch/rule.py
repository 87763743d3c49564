"""The two rules that a distance is measured by; here, because settings name them and import nothing else."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """How a distance is measured that Th is compared with."""

    RESCORED = "rescored"
    """Views, masked blocks and PDQ: `copywatch.matching.score`. Fingerprints of mao only."""
    PAPER = "paper"
    """SRPITP's Formula (1), upright images only."""
