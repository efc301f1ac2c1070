"""Cells of CSV files: a text that a spreadsheet would run as a formula stays text."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["PLAIN_NUMBER", "csv_cell"]

PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def csv_cell(value: Any) -> str:
    """A value as a cell, quoted where that is needed; what a spreadsheet would take for a formula gets an apostrophe in front.

    Spaces in front of a formula do not protect from it: some programs drop them.

    Example:
        >>> csv_cell("=1+1"), csv_cell(" =1+1"), csv_cell("-0.5"), csv_cell(None)
        ("'=1+1", "' =1+1", '-0.5', '')
    """
    # Not csv.writer: with lines that end in "\n" it leaves a lone carriage return unquoted, and readers see two rows.
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if text.lstrip(" ").startswith(_FORMULA) and not PLAIN_NUMBER.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
