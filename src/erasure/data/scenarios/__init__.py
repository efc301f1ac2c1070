"""Splitters for settings of unlearning beyond a random share, a class or a list of samples."""
