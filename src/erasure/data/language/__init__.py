"""Prompts and answers as tokens."""
