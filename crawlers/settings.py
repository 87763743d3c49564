"""Scrapy's settings that are the same for every site; `crawlers.run` adds those of the site."""

from __future__ import annotations

from typing import Any

BOT_NAME = "copywatch"
SPIDER_MODULES = ["crawlers.spiders"]

TWISTED_DNS_RESOLVER = "crawlers.addresses.GuardedResolver"

# http and https only: file:, ftp:, data: and s3: have no handler, whatever a page or a redirect names.
DOWNLOAD_HANDLERS: dict[str, str | None] = {"data": None, "file": None, "ftp": None, "s3": None}

DOWNLOADER_MIDDLEWARES: dict[str, int | None] = {
    "crawlers.middlewares.AddressGuard": 50,
    "crawlers.manners.RobotsRules": 100,
    "crawlers.middlewares.PatientRetry": 550,
    "crawlers.manners.Breaker": 560,
    "crawlers.middlewares.BoundedDecompression": 590,
    "crawlers.middlewares.BoundedRedirects": 600,
    "crawlers.manners.Bandwidth": 900,
    "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
    "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
    "scrapy.downloadermiddlewares.httpauth.HttpAuthMiddleware": None,
    "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
    "scrapy.downloadermiddlewares.redirect.MetaRefreshMiddleware": None,
    "scrapy.downloadermiddlewares.httpcompression.HttpCompressionMiddleware": None,
    "scrapy.downloadermiddlewares.redirect.RedirectMiddleware": None,
    "scrapy.downloadermiddlewares.cookies.CookiesMiddleware": None,
    # Behind a proxy the proxy resolves names, and the guard could not see what is connected to.
    "scrapy.downloadermiddlewares.httpproxy.HttpProxyMiddleware": None,
    "scrapy.downloadermiddlewares.httpcache.HttpCacheMiddleware": None,
}

# The spiders count pages and depth themselves: these two would drop requests without a word, an image of the last
# page among them. Answers of any status come to the spider, which makes rows of them.
SPIDER_MIDDLEWARES: dict[str, int | None] = {
    "scrapy.spidermiddlewares.httperror.HttpErrorMiddleware": None,
    "scrapy.spidermiddlewares.urllength.UrlLengthMiddleware": None,
    "scrapy.spidermiddlewares.depth.DepthMiddleware": None,
    "scrapy.spidermiddlewares.metacopy.MetaCopyDetectionMiddleware": None,
}

# Not Scrapy's own list: listening sockets (telnet, remote control) have no place in a process that reads hostile pages,
# and what is switched off in that list is imported all the same.
EXTENSIONS_BASE: dict[str, int] = {
    "scrapy.extensions.corestats.CoreStats": 0,
    "scrapy.extensions.logstats.LogStats": 0,
    "scrapy.extensions.closespider.CloseSpider": 0,
}
EXTENSIONS: dict[str, int | None] = {
    "crawlers.manners.PoliteThrottle": 0,
    # Against answers that have no end where no size is counted, such as headers.
    "crawlers.memory.ResidentMemory": 0,
}
TELNETCONSOLE_ENABLED = False
REMOTE_CONTROL_ENABLED = False

ITEM_PIPELINES: dict[str, int] = {"crawlers.pipelines.LandingPipeline": 300}

# Requests are told apart by the spider, by normalised address: a redirect back to an address that was asked for
# must not be dropped as a double, since then nobody would hear of it.
DUPEFILTER_CLASS = "scrapy.dupefilters.BaseDupeFilter"
# Pages near the start come first.
SCHEDULER_MEMORY_QUEUE = "scrapy.squeues.FifoMemoryQueue"

CONCURRENT_REQUESTS = 16
# Scrapy makes a hundred tasks of each answer for pipelines that wait; ours waits for nothing.
CONCURRENT_ITEMS = 1
# How many of them to one host, the site says (`crawlers.run`). AutoThrottle only ever adds to a site's delay: when a
# host needs `latency` seconds to answer, requests are `latency / concurrency` apart.
AUTOTHROTTLE_ENABLED = True
AUTOTHROTTLE_MAX_DELAY = 30.0
# A site's delay is the least time between two requests, not their mean.
DOWNLOAD_DELAY_JITTER = 0.0

REDIRECT_MAX_TIMES = 5
RETRY_TIMES = 2
RETRY_BACKOFF_SECONDS = 1.0
RETRY_LONGEST_WAIT_SECONDS = 30.0
# So many without a usable answer in a row, and a host is not asked any more.
BREAKER_REQUESTS = 20

COOKIES_ENABLED = False
HTTPPROXY_ENABLED = False
METAREFRESH_ENABLED = False
# What browsers send: some hosts serve images only to visitors of their own pages.
REFERRER_POLICY = "strict-origin-when-cross-origin"
# A copy on a host with an expired certificate is still a copy, and the crawl sends nothing secret.
DOWNLOAD_VERIFY_CERTIFICATES = False
DOWNLOAD_WARNSIZE = 0

MEMUSAGE_LIMIT_MB = 2048
MEMUSAGE_CHECK_INTERVAL_SECONDS = 2.0

LOG_INSTALL_ROOT_HANDLER = False
STATS_DUMP = False
WARN_ON_GENERATOR_RETURN_VALUE = False


def as_dict() -> dict[str, Any]:
    """The settings above by name."""
    return {name: value for name, value in globals().items() if name.isupper()}
