"""Figures: one file a group of them, from records and verdicts to specification, caption and data."""
