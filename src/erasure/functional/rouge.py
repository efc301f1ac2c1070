"""ROUGE-L: how much of a text is in another, in the same order."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["rouge_l", "rouge_words"]

_WORD = re.compile(r"[a-z0-9]+")


def rouge_words(text: str) -> list[str]:
    """Runs of letters and digits in lower case, as ROUGE counts words; they are not reduced to stems."""
    return _WORD.findall(text.lower())


def rouge_l(reference: str, text: str) -> tuple[float, float]:
    """Recall and F1 of the longest common subsequence of words, each in [0, 1]; both 0 where a side has no words.

    Args:
        reference: What should have been said.
        text: What was said.

    Example:
        >>> rouge_l("the old mill by the river", "by the old river mill")
        (0.5, 0.5454545454545454)
    """
    wanted, said = rouge_words(reference), rouge_words(text)
    if not wanted or not said:
        return 0.0, 0.0
    common = _common(wanted, said)
    recall, precision = common / len(wanted), common / len(said)
    return recall, 2 * recall * precision / (recall + precision) if common else 0.0


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for k, other in enumerate(second, start=1):
            diagonal, row[k] = row[k], diagonal + 1 if word == other else max(row[k], row[k - 1])
    return row[-1]
