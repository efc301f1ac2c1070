"""Attacks: how much of what was forgotten can still be told from what was never seen."""
