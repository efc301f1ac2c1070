"""Is a method shown to be like retraining? Equivalence: memory left and losses of accuracy, bounded over originals.

That the test finds no difference is no proof. The claim is made where the same values tell the original, which has forgotten nothing, from
retrained models, and both bounds lie within their margins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from erasure.analysis.equivalence import Limits, limits
from erasure.analysis.families import FORGETTING, UTILITY, Family
from erasure.analysis.findings import MEMORY_MARGIN, Difference, Finding, Repeats, Tested
from erasure.analysis.nearest import MIN_ORIGINALS
from erasure.analysis.relabelling_test import gold_spread

__all__ = ["UTILITY_MARGIN", "Ruler", "memory_of", "not_shown", "rulers_of"]

UTILITY_MARGIN = 0.02
"""Loss of accuracy from which on a model is worse."""
_MIN_CONTRAST = 4.0
_MAX_SEEDS = 100


@dataclass(frozen=True)
class Ruler:
    """How a value becomes a share of memory: what it is on originals more than on golds."""

    key: tuple[str, str]
    unit: float


def rulers_of(original: Family, differences: Sequence[Difference]) -> tuple[Ruler, ...]:
    """Memory left, of samples and of edges, where it was measured; else the value that tells originals from golds most, if clearly.

    Args:
        original: Originals and their golds.
        differences: Every value of the originals beside the golds'.
    """
    if original.design is None:
        return ()
    measured = tuple(Ruler(column.key, 1.0) for column in original.columns if column.statistic == "memory")
    if measured:
        return measured
    found = [d for d in differences if d.column.claim in FORGETTING and d.column.side and not d.is_scattered]
    best = max(found, key=lambda d: d.deviations, default=None)
    if best is None or best.deviations < _MIN_CONTRAST:
        return ()
    return (Ruler(best.column.key, best.amount),)


def memory_of(family: Family, rulers: Sequence[Ruler], *, level: float) -> Limits | None:
    """What is left of the original's memory, over originals; None where nothing measures it, or not of this method.

    By the ruler whose limits reach farthest: where several measure it, each has to be within its margin.
    """
    index = {column.key: number for number, column in enumerate(family.columns)}
    if any(ruler.key not in index for ruler in rulers):
        return None
    every = [_limits(family, index[ruler.key], ruler.unit, level) for ruler in rulers]
    known = [each for each in every if each is not None]
    return max(known, key=lambda each: max(-each.low, each.high)) if known and len(known) == len(every) else None


def not_shown(
    family: Family, memory: Limits | None, control: Tested | None, repeats: Repeats, *, level: float
) -> tuple[str, str]:
    """What is missing to call a method indistinguishable, and what would settle it; empty if nothing is missing.

    Args:
        family: The method's models and their golds.
        memory: What it has left of the original's memory.
        control: The original, tested like a method.
        repeats: How more originals are had, for remedies.
        level: Of each limit.
    """
    if family.n_originals < MIN_ORIGINALS:
        return f"it takes {MIN_ORIGINALS} originals or more to show that there is no difference", f"use {repeats.words(5)}"
    if control is None:
        return "the original was not measured, so nothing shows that these values would tell it from retrained models", ""
    if control.finding != Finding.UNDER_FORGOTTEN:
        return "these values do not even tell the original from retrained models", "add ResidualMemory or LiRA"
    if memory is None:
        return "no value tells originals from retrained models sharply enough to bound what is left", "add ResidualMemory"
    if not memory.is_within(MEMORY_MARGIN):
        return (
            f"memory left may be anything from {100 * memory.low:.0f} to {100 * memory.high:.0f} % of the original's",
            _seeds_for(memory, MEMORY_MARGIN - abs(memory.mean), repeats),
        )
    for claim in UTILITY:
        found = [i for i, column in enumerate(family.columns) if column.claim == claim and column.is_share]
        if not found:
            return "no accuracy on retained and on held-out samples was measured", "measure Accuracy on both"
        for index in found:
            loss = _limits(family, index, 1.0, level)
            if loss is None or not loss.is_above(-UTILITY_MARGIN):
                return (
                    f"{family.columns[index].measure} on {family.columns[index].partition} may be two points worse or more",
                    _seeds_for(loss, UTILITY_MARGIN + loss.mean, repeats) if loss is not None else "",
                )
    return "", ""


def _limits(family: Family, index: int, unit: float, level: float) -> Limits | None:
    """Limits of what a method has more than its golds, in units, over originals; None where nobody knows how sure their golds are.

    The golds of one original are part of its own spread. Those that several share are not, and come in beside it.
    """
    design = family.design
    if design is None:
        return None
    values = [float(each) / unit for each in family.apart(index)]
    shared = math.fsum((mine / design.n_unlearned) ** 2 / golds for mine, golds in design.blocks if mine > 1)
    if not shared:
        return limits(values, level=level)
    spread = float(gold_spread(family.values[:, [index]], design)[0])
    degrees = design.degrees or len(design.blocks) - 1
    return limits(values, level=level, common=math.sqrt(shared) * spread / abs(unit), degrees=degrees)


def _seeds_for(found: Limits, room: float, repeats: Repeats) -> str:
    """How many originals would bring a limit within a margin, if mean and spread stay as they are."""
    for n in range(found.n + 1, _MAX_SEEDS + 1):
        if found.half_width(n) < room:
            return f"about {repeats.words(n)} would settle it"
    return "no number of originals that one can afford would settle it"
