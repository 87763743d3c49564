"""Local features: what finds a picture in a crop, a collage or a screenshot, where a global fingerprint cannot."""
