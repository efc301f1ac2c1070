"""Looks: how often a run's folder was judged with growing seeds. Each further look is one more chance to accuse a retrained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.durable import write_atomically

__all__ = ["LOOKS_FILE", "MAX_LOOKS", "Look", "count_look"]

LOOKS_FILE = "looks.json"
MAX_LOOKS = 3
"""Looks that are worth planning: three at a third of the level each find nearly all that the last one alone would."""


@dataclass(frozen=True)
class Look:
    """Which of several looks this one is.

    Args:
        number: From 1.
        planned: Looks that were planned before the first; 1 if none was planned beside it.
    """

    number: int = 1
    planned: int = 1

    def level(self, whole: float) -> float:
        """Level of this look, of what all planned looks share.

        A look that nobody planned comes on top: it is taken as strictly as if it had been planned with two others.
        """
        if self.planned > 1:
            return whole / self.planned
        return whole if self.number == 1 else whole / MAX_LOOKS

    def spent(self, whole: float) -> float:
        """Level of this look and all before it together."""
        return sum(Look(number, self.planned).level(whole) for number in range(1, self.number + 1))


def count_look(directory: Path, question: str, design: Mapping[str, int], planned: int | None = None) -> Look:
    """Keep that a design was judged, and say which look at the same question it is.

    Args:
        directory: The run's folder.
        question: What is asked: data, recipe and methods, as an address. Another question starts from zero.
        design: Numbers of originals and of golds. The same design again is the same look.
        planned: Looks that are planned, this one included. What the first look was taken with holds for the later ones.
    """
    looks, before = _read(directory / LOOKS_FILE, question)
    agreed = before if looks and before else planned or 1
    if looks and looks[0] == dict(design) and len(looks) == 1 and planned:
        agreed = planned  # the first look again
    if dict(design) not in looks or agreed != before:
        looks = looks if dict(design) in looks else [*looks, dict(design)]
        text = json.dumps({"question": question, "planned": agreed, "looks": looks}, indent=1)
        write_atomically(directory / LOOKS_FILE, text.encode())
    return Look(looks.index(dict(design)) + 1, agreed)


def _read(path: Path, question: str) -> tuple[list[dict[str, Any]], int]:
    try:
        found = json.loads(path.read_bytes())
        looks = [dict(each) for each in found["looks"]] if found["question"] == question else []
        planned = int(found.get("planned", 1)) if looks else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or of no use
        return [], 0
    return looks, planned
