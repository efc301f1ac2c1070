"""Text as a terminal shows it: docstrings without their markup, names without what steers the terminal."""

from __future__ import annotations

import re

__all__ = ["printable", "without_markup"]

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


def printable(text: str) -> str:
    r"""The same text in one line, all spaces plain; control characters, which could steer the terminal, become ``?``.

    Example:
        >>> printable("clear \x1b[2J\n")
        'clear ?[2J '
    """
    return "".join(c if c.isprintable() else " " if c in "\n\t\u00a0" else "?" for c in text)
