"""Docstrings as a terminal shows them."""

from __future__ import annotations

import re

__all__ = ["without_markup"]

_ROLE = re.compile(r":[a-z:]+:`~?([^`]*)`")
_LITERAL = re.compile(r"``([^`]*)``")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_MATH = re.compile(r"^\.\. math::\s*", re.MULTILINE)


def without_markup(text: str) -> str:
    """The same text without the marks of reStructuredText; formulas stay as LaTeX.

    Example:
        >>> without_markup("the same as :class:`SklearnMetric` with ``accuracy_score``")
        'the same as SklearnMetric with accuracy_score'
    """
    for pattern in (_ROLE, _LITERAL, _BOLD):
        text = pattern.sub(r"\1", text)
    return _MATH.sub("    ", text)
