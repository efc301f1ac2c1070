"""Looks: how often a run's folder was judged with growing seeds. Each further look is one more chance to accuse a retrained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erasure.durable import write_atomically

__all__ = ["LOOKS_FILE", "MOST_LOOKS", "count_look"]

LOOKS_FILE = "looks.json"
MOST_LOOKS = 3
"""Looks that are worth planning: three at a third of the level each find nearly all that the last one alone would."""


def count_look(directory: Path, question: str, design: Mapping[str, int]) -> int:
    """Keep that a design was judged, and say how many there were for the same question.

    Args:
        directory: The run's folder.
        question: What is asked: data, recipe and methods, as an address. Another question starts from zero.
        design: Numbers of originals and of golds. The same design again is the same look.

    Returns:
        Looks so far, this one included.
    """
    looks = _read(directory / LOOKS_FILE, question)
    if dict(design) not in looks:
        looks.append(dict(design))
        text = json.dumps({"question": question, "looks": looks}, indent=1)
        write_atomically(directory / LOOKS_FILE, text.encode())
    return looks.index(dict(design)) + 1


def _read(path: Path, question: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
        looks = [dict(each) for each in found["looks"]] if found["question"] == question else []
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or of no use
        return []
    return looks
