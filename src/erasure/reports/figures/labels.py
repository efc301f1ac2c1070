"""Labels of figures: short enough to be read, and moved apart where they would overlap."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["LONGEST", "LabelPosition", "place_labels", "short_labels"]

LONGEST = 26
"""Characters of a label in a figure."""

_CHARACTER = 5.7
_HEIGHT = 13.0
_RADIUS = 15.0
_RINGS = (14.0, 22.0, 36.0, 52.0, 70.0)
"""Distances of a label from its point."""
_COVERED = 0.2
"""Share of a label that may be covered; one that would be covered more is left out."""
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelPosition:
    """Centre of a label, in pixels from the top left, whether a line should lead to it, and whether it can be read there."""

    x: float
    y: float
    is_far: bool = False
    is_clear: bool = True


def short_labels(labels: Iterable[str]) -> dict[str, str]:
    """A short form of every label that is too long for a figure; different labels stay different.

    Names of parameters are cut to the initials of their words; what is still too long loses its middle, and gets a number where that
    makes two the same.

    Example:
        >>> short_labels(["SSD (selection_weighting=5.0, dampening_constant=0.3)"])
        {'SSD (selection_weighting=5.0, dampening_constant=0.3)': 'SSD (sw=5.0, dc=0.3)'}
    """
    labels = list(dict.fromkeys(labels))
    taken = {label for label in labels if len(label) <= LONGEST}
    short: dict[str, str] = {}
    for label in labels:
        if label in taken:
            continue
        text = base = _abbreviated(label)
        number = 2
        while text in taken:
            text, number = f"{base[: LONGEST - 4]} #{number}", number + 1
        taken.add(text)
        short[label] = text
    return short


def _initials(name: str) -> str:
    return name if len(name) <= 4 else "".join(word[:1] for word in name.split("_") if word) or name[:1]


def _abbreviated(label: str) -> str:
    text = re.sub(r"(\w+)=", lambda found: _initials(found[1]) + "=", label)
    half = (LONGEST - 1) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    width: float,
    height: float,
    taken: Sequence[_Box] = (),
) -> list[LabelPosition]:
    """A place for each label: the nearest one around its point that covers nothing, or else what covers least, if it can be read.

    Args:
        points: Pixels of each point.
        texts: Text of each label.
        width: Width of the figure.
        height: Height of the figure.
        taken: Left, bottom, width and height of what is already there.
    """
    boxes: list[_Box] = [(x, y - h, x + w, y) for x, y, w, h in taken]
    boxes += [(x - _RADIUS / 2, y - _RADIUS / 2, x + _RADIUS / 2, y + _RADIUS / 2) for x, y in points]
    places = []
    for (x, y), text in zip(points, texts, strict=True):
        half = _CHARACTER * min(len(text), 32) / 2
        candidates = []
        for ring, distance in enumerate(_RINGS):
            for dx, dy in ((1, 0), (0, -1), (0, 1), (-1, 0), (0.8, -0.8), (0.8, 0.8), (-0.8, -0.8), (-0.8, 0.8)):
                # A label beside its point starts there; one above or below is centred on it.
                at_x, at_y = x + dx * (half * (1 if dy == 0 else 0.9) + distance * abs(dx)), y + dy * distance
                box = left, top, right, bottom = (at_x - half, at_y - _HEIGHT / 2, at_x + half, at_y + _HEIGHT / 2)
                outside = max(0.0, -left) + max(0.0, right - width) + max(0.0, -top) + max(0.0, bottom - height + 2)
                near = [o for o in boxes if o[0] < right and o[2] > left and o[1] < bottom and o[3] > top]
                covered = sum(_overlap(box, other) for other in near)
                candidates.append((covered + 40 * outside + 8 * ring, at_x, at_y, box, ring, covered))
        _, best_x, best_y, best, ring, hidden = min(candidates)
        is_clear = hidden <= _COVERED * 2 * half * _HEIGHT
        if is_clear:
            boxes.append(best)
        places.append(LabelPosition(best_x, best_y, ring > 1, is_clear))
    return places


def _overlap(a: _Box, b: _Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
