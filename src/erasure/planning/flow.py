"""A plan as a picture: how many stages of each kind there are, and which kinds wait for which."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

__all__ = ["flow_svg"]

_BOX, _GAP, _LINE = (118, 40), 34, 58
_INK, _PAPER, _EDGE = "#1a2330", "#eef3f8", "#8a97a6"


def flow_svg(kinds: Mapping[str, int], follows: Iterable[tuple[str, str]]) -> str:
    """How many stages of each kind there are, and which kinds wait for which, as a picture.

    Args:
        kinds: How many stages there are of each kind, in the order of the plan.
        follows: Pairs of a kind and one that waits for it.
    """
    edges = {(first, second) for first, second in follows if first != second}
    order = list(kinds)
    depth: dict[str, int] = {}
    for kind in order:
        before = [depth[first] for first, second in edges if second == kind and first in depth]
        depth[kind] = max(before, default=-1) + 1
    columns: dict[int, list[str]] = {}
    for kind in order:
        columns.setdefault(depth[kind], []).append(kind)
    places = {kind: (x * (_BOX[0] + _GAP), y * _LINE) for x, column in columns.items() for y, kind in enumerate(column)}
    width = (max(columns, default=0) + 1) * (_BOX[0] + _GAP) - _GAP
    height = max((len(column) for column in columns.values()), default=1) * _LINE
    lines = [_arrow(places[first], places[second]) for first, second in sorted(edges) if depth[first] < depth[second]]
    boxes = [_box(*places[kind], kind, number) for kind, number in kinds.items()]
    said = html.escape(", ".join(f"{number} {kind}" for kind, number in kinds.items()), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Stages: {said}" viewBox="-4 -4 {width + 8} {height}" '
        f'width="{min(width + 8, 1000)}" style="max-width:100%;background:#fff">{"".join([*lines, *boxes])}</svg>'
    )


def _arrow(first: tuple[int, int], second: tuple[int, int]) -> str:
    x1, y1, x2, y2 = first[0] + _BOX[0], first[1] + _BOX[1] // 2, second[0], second[1] + _BOX[1] // 2
    bend = (x1 + x2) // 2
    path = f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="{_EDGE}"/><path d="M{x2} {y2}l-6 -3v6z" fill="{_EDGE}"/>'


def _box(x: int, y: int, kind: str, number: int) -> str:
    text = f"{kind} × {number}" if number > 1 else kind
    return (
        f'<rect x="{x}" y="{y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6" fill="{_PAPER}" stroke="{_EDGE}"/>'
        f'<text x="{x + _BOX[0] // 2}" y="{y + 25}" text-anchor="middle" font-family="sans-serif" font-size="13" fill="{_INK}">'
        f"{html.escape(text)}</text>"
    )
