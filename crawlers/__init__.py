"""The Scrapy project that crawls one watched site and lands its new images for Spark."""
