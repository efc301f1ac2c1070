"""Preprocess steps: what is done once to the columns of a source, before they are cached and cut."""
