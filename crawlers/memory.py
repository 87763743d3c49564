"""How much memory a crawl holds, for Scrapy's limit on it."""

from __future__ import annotations

import psutil
from scrapy.extensions.memusage import MemoryUsage


class ResidentMemory(MemoryUsage):
    """Scrapy's memory limit, on what the process holds now.

    Scrapy's own asks for the peak. On Linux a process inherits its parent's peak, so that a crawl started by a large
    process would be stopped for memory that it never had.
    """

    def get_virtual_size(self) -> int:
        """Resident memory, in bytes."""
        resident: int = psutil.Process().memory_info().rss
        return resident
