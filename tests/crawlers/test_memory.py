"""The crawl's memory limit is on what the crawl holds, not on what its parent once held."""

from __future__ import annotations

import resource
import subprocess
import sys

CHILD = """
import resource
from crawlers.memory import ResidentMemory
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, ResidentMemory.get_virtual_size(None))
"""
HELD = 700 * 2**20


def test_a_parents_peak_is_not_the_crawls() -> None:
    held = bytearray(HELD)
    held[:: resource.getpagesize()] = b"x" * len(range(0, HELD, resource.getpagesize()))
    answer = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True).stdout
    del held
    peak, resident = map(int, answer.split())
    assert 0 < resident < HELD // 2
    if sys.platform == "linux":
        assert peak > HELD, "the peak is inherited, which is why it is not what is looked at"


def test_it_is_the_limit_in_force() -> None:
    from scrapy.extensions.memusage import MemoryUsage
    from scrapy.utils.conf import build_component_list
    from scrapy.utils.misc import load_object

    from crawlers import settings
    from crawlers.memory import ResidentMemory

    used = build_component_list({**settings.EXTENSIONS_BASE, **settings.EXTENSIONS})
    assert [one for one in map(load_object, used) if issubclass(one, MemoryUsage)] == [ResidentMemory]
