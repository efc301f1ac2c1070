"""Data sources: one file for each library or kind of file they read."""
