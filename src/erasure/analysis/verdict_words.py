"""Gaps to gold in sentences, as a layman would say them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from erasure.analysis.gaps import Comparison

__all__ = ["joined", "listed", "number", "sentence", "sentences"]

_FEW = 3
"""Pieces of evidence that are spelled out; the table has all of them."""


def listed(compared: Iterable[Comparison]) -> str:
    """Measures in words, each with all that it was measured on."""
    measured: dict[str, list[str]] = {}
    for c in compared:
        measured.setdefault(f"the attack {c.measure}" if c.is_attack else c.measure, []).append(c.samples or c.partition)
    parts = []
    for measure, where in measured.items():
        on = joined([each for each in dict.fromkeys(where) if each])
        parts.append(f"{measure} on {on} samples" if on else measure)
    more = len(parts) - _FEW
    return joined(parts if more <= 0 else [*parts[:_FEW], f"{more} further {'measure' if more == 1 else 'measures'}"])


def joined(words: Sequence[str]) -> str:
    """Words as an enumeration: ``a, b and c``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def sentences(compared: Sequence[Comparison]) -> tuple[str, ...]:
    """The first few in words, of each attack the one that tells most, and how many more there are."""
    firsts: dict[str, Comparison] = {}
    for c in compared:
        firsts.setdefault(c.measure.split()[0] if c.is_attack else _name(c), c)
    shown = list(firsts.values())[:_FEW]
    more = len(compared) - len(shown)
    rest = (
        (f"{more} further {'value differs' if more == 1 else 'values differ'} by more than the noise floor.",) if more > 0 else ()
    )
    return (*(sentence(c) for c in shown), *rest)


def _name(c: Comparison) -> str:
    return f"{c.measure} on {c.partition}" if c.partition else c.measure


def sentence(c: Comparison) -> str:
    """The two values in words: shares of right answers and attacks as a layman would say them."""
    if c.is_attack:
        return _attack_sentence(c)
    if c.samples and c.unit == "" and c.measure.casefold().startswith("accuracy"):
        floor = f"\u00a0±\u00a0{100 * c.floor:.1f}" if c.floor is not None else ""
        value, gold = f"{100 * c.value:.1f}\u00a0%", f"{100 * c.gold:.1f}{floor}\u00a0%"
        if c.is_scattered:
            return (
                f"{value} right on {c.samples} samples on average, a retrained model {gold}; seed by seed they are "
                f"{100 * c.gap:.1f} points apart."
            )
        return f"{value} right on {c.samples} samples; a retrained model {gold}."
    floor = f" ± {number(c.floor, c.unit)}" if c.floor is not None else ""
    apart = f"; seed by seed they are {number(c.gap, c.unit)} apart" if c.is_scattered else ""
    return f"{_name(c)} is {number(c.value, c.unit)}; retraining has {number(c.gold, c.unit)}{floor}{apart}."


def _attack_sentence(c: Comparison) -> str:
    """What an attack reaches: a share of the forgotten samples, of pairs, or a number of its own."""
    if c.unit or min(c.value, c.gold) < 0 or max(c.value, c.gold) > 1:
        floor = f" ± {number(c.floor, c.unit)}" if c.floor is not None else ""
        return (
            f"An attack that looks for traces ({c.measure}) reaches {number(c.value, c.unit)}; on a retrained model "
            f"{number(c.gold, c.unit)}{floor}."
        )
    floor = f"\u00a0±\u00a0{100 * c.floor:.1f}" if c.floor is not None else ""
    value, gold = f"{100 * c.value:.1f}\u00a0%", f"{100 * c.gold:.1f}{floor}\u00a0%"
    attack, _, rate = c.measure.partition(" TPR at ")
    if rate:
        alarms = rate.removesuffix(" FPR").replace("%", "\u00a0%")
        return (
            f"An attack ({attack}) finds {value} of the forgotten samples at {alarms} false alarms; on a retrained model {gold}."
        )
    if c.chance is None:
        return f"An attack ({attack}) takes {value} of the forgotten samples for ones that were trained on; on a retrained model {gold}."
    pairs = " of pairs" if attack.endswith("AUC") else ""
    return f"An attack that looks for traces ({c.measure}) is right in {value}{pairs}; on a retrained model in {gold}."


def number(value: float, unit: str = "") -> str:
    """A value to three digits, with its unit."""
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if value and abs(value) < 0.0005:
        text = f"{value:.1e}"
    return f"{text} {unit}".rstrip()
