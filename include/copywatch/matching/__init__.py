"""Fingerprints -> distances -> verdict."""

from copywatch.matching.codes import SearchCode, search_code_of
from copywatch.matching.index import FlatIndex, Nearest, Pairs
from copywatch.matching.tags import tags_to_search
from copywatch.matching.verdict import Verdict, verdict

__all__ = ["FlatIndex", "Nearest", "Pairs", "SearchCode", "Verdict", "search_code_of", "tags_to_search", "verdict"]
