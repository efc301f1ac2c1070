"""What a design can say of its methods, in words."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from erasure.cli.amounts import shown_duration

if TYPE_CHECKING:
    from erasure.analysis.designs import Outlook
    from erasure.analysis.labellings import Design

__all__ = ["design_lines", "design_record", "golds_in_words", "originals_in_words", "proposal_lines"]

_MAX_SHOWN = 5
_MANY = 1_000_000_000
_SHARP, _FEW = 3.0, 3


def design_record(design: Outlook) -> dict[str, Any]:
    """A design as JSON."""
    shift = None if design.shift is None or math.isinf(design.shift) else design.shift
    return {
        "originals": design.n_originals,
        "golds": design.n_golds,
        "methods": design.n_methods,
        "labellings": design.n_labellings,
        "smallest_p": design.smallest_p,
        "basis": design.basis or None,
        "detectable_shift_sd": shift,
        "estimated_s": design.price_s,
    }


def design_lines(design: Outlook) -> str:
    """How methods of a run are judged, what the run finds, and what would be enough where it may accuse nobody."""
    together = f"{design.n_methods} method{'s' if design.n_methods > 1 else ''} judged together"
    if not design.n_golds:
        return f"Without further golds nobody is judged. {_enough(design.n_methods)}"
    kind = f"{originals_in_words(design.n_originals)} with {golds_in_words(design.n_golds, design.n_originals)}, {together}"
    ways = f"{_counted(design.n_labellings)} labellings of the models, smallest p {design.smallest_p:.2g}"
    if not design.basis:
        return f"{kind}: {ways}, so that nobody can be accused. {_enough(design.n_methods)}"
    found = f"{kind}: {ways}. {_finds(design)}"
    if design.basis == "t":
        found += f" That is by a t-test, which assumes that golds are normally distributed. {_free(design)}"
    return f"{found}{_misses(design)}"


def proposal_lines(designs: list[Outlook], budget_s: float) -> str:
    """The designs that fit a time, the sharpest first, and how to run the first."""
    best = designs[0]
    lines = [f"Designs that fit in {shown_duration(budget_s)} for {best.n_methods} method{'s' if best.n_methods > 1 else ''}:"]
    lines.append(
        f"{'originals':>9} {'golds each':>10} {'labellings':>12} {'smallest p':>10} {'by':>10} {'finds':>8} {'takes':>9}"
    )
    for each in designs[:_MAX_SHOWN]:
        takes = shown_duration(each.price_s or 0.0)
        shift = "nothing" if each.shift is None or math.isinf(each.shift) else f"{each.shift:.1f} sd"
        numbers = f"{each.n_originals:>9} {each.n_golds:>10} {_counted(each.n_labellings):>12} {each.smallest_p:>10.2g}"
        lines.append(f"{numbers} {each.basis:>10} {shift:>8} {takes:>9}")
    lines.append(f"The first: {_options(best.n_originals, best.n_golds)}. {_finds(best)}")
    return "\n".join(lines)


def _counted(n: int) -> str:
    """A number of labellings, which may have dozens of digits."""
    return f"{n:,}" if n < _MANY else f"about {Decimal(n):.0e}".replace("e+", "e")


def _finds(design: Outlook) -> str:
    if design.shift is None or math.isinf(design.shift):
        return "It finds no shift of a value in 80 % of cases, however large."
    return f"It finds a shift of one value by {design.shift:.1f} standard deviations of a gold in 80 % of cases."


def _misses(design: Outlook) -> str:
    """What a design with few models cannot see, and which one would."""
    from erasure.analysis.designs import outlook
    from erasure.analysis.labellings import Design

    said = ""
    if design.shift is None or design.shift > _SHARP:
        other = outlook(Design(((1, 4),) * 5), design.n_methods)
        said = " An original that has forgotten nothing may differ by less, and so may a method that seems to have forgotten."
        if other.shift is not None and design.n_originals < other.n_originals:
            said += f" From {other.shift:.1f} it is found by {_options(5, 4)}; ResidualMemory makes the difference larger."
    return f"{said} To call a method indistinguishable takes three originals." if design.n_originals < _FEW else said


def _enough(n_methods: int) -> str:
    from erasure.analysis.designs import least_designs

    return f"Enough would be {_listed(least_designs(n_methods))}."


def _free(design: Outlook) -> str:
    from erasure.analysis.designs import least_designs

    return f"Enough without it: {_listed(least_designs(design.n_methods)[1:])}."


def _listed(designs: list[Design]) -> str:
    return ", or ".join(_options(len(each.blocks), each.blocks[0][1]) for each in designs)


def _options(n_originals: int, n_golds: int) -> str:
    seeds = f"--seeds 0-{n_originals - 1}" if n_originals > 1 else "--seed 0"
    return f"{seeds} --set evaluator.floor_repeats={n_golds}"


def originals_in_words(n: int) -> str:
    """Their number."""
    return f"{n} original{'s' if n > 1 else ''}"


def golds_in_words(n: int, n_originals: int) -> str:
    """Their number, each if there are several originals."""
    return f"{n} further gold{'s' if n > 1 else ''}{' each' if n_originals > 1 else ''}"
