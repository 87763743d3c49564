"""Images of a site whose addresses are known from earlier crawls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from copywatch.errors import Reason
from crawlers.failures import Refusal
from crawlers.pages import ShownImage
from crawlers.spiders.base import Showing, SiteSpider


class AgainSpider(SiteSpider):
    """Asks for the images of `CrawlJob.only_images`, and reads no page. Each address becomes a row."""

    name = "again"

    async def start(self) -> AsyncIterator[Any]:
        """Requests of the images, or rows why there is none."""
        # No page is to be read, so none that is missing fails the crawl.
        self.tally.start_read = 1
        for address in dict.fromkeys(self.job.only_images or ()):
            shown = ShownImage(address, uploader=None, uploaded_at=None)
            about: dict[str, Any] = {"showing": Showing(self.site.start[0], 1, shown), "digest": self.digest_of(shown)}
            self.tally.images_found += 1
            try:
                refusal = self._refusal_of(shown)
                request = None if refusal else self._image_request(address, about["digest"], about["showing"])
            except ValueError as error:
                refusal, request = Refusal(Reason.FORBIDDEN_ADDRESS, f"no valid address: {error}", lasting=True), None
            if request is None:
                self.tally.refused += 1
                yield self._image_row(refusal, None, **about)
            else:
                if referer := self._referer(address):
                    request.headers["Referer"] = referer
                yield request

    def _referer(self, address: str) -> str | None:
        """The least that a browser says of the page that shows an image: some hosts serve nobody else."""
        page = urlsplit(self.site.start[0])
        downgrade = page.scheme == "https" and urlsplit(address).scheme != "https"
        return None if downgrade else f"{page.scheme}://{page.netloc}/"
