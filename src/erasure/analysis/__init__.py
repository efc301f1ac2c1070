"""Statistics of results: arrays in, p-values, limits and choices out; no torch, no files."""
