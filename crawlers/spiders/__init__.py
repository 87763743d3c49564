"""One spider for each kind of source, a few lines over `SiteSpider`."""
