"""Is a candidate a copy? The two pictures are laid over each other and compared block by block."""
