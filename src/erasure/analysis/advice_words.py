"""Advice in sentences, for somebody who has never heard of unlearning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from erasure.analysis.advice import MIN_ORIGINALS, Advice, Advised
from erasure.analysis.findings import Finding, Repeats
from erasure.analysis.verdict_words import NOTHING_TO_FORGET, joined
from erasure.analysis.verdicts import Verdict

__all__ = ["recommendation"]

_FEW_ORIGINALS = 5
_FEW_SAMPLES = 30
"""Forgotten samples with which accuracies and attacks on all of them together seldom show anything."""
_MAX_TIES = 3
_MIN_COMPARED = 3
"""The original among them: a single method competes with nobody."""
_FAR = 100.0


def recommendation(advice: Advice) -> str:
    """What to do, in words that can stand alone."""
    few = f" Not compared, because it takes {MIN_ORIGINALS} originals: {_listed(advice.left_out)}." if advice.left_out else ""
    return _WORDS[advice.kind](advice) + few + _by_proof(advice.proven)


def _by_proof(proven: Sequence[Verdict]) -> str:
    """Who forgets exactly, whatever could be measured."""
    if not proven:
        return ""
    names = _listed([each.label for each in proven])
    return f" By proof, whatever was measured, {names} {'gives' if len(proven) == 1 else 'give'} what retraining gives."


def _no_gold(_: Advice) -> str:
    return "There is no retrained model in this run, so nobody can say which method forgets best. Add a partition to retrain on."


def _training_failed(advice: Advice) -> str:
    return f"Training itself has failed: {_unended(advice.reason)}. No method can be judged until it works."


def _nothing_measured(advice: Advice) -> str:
    return f"{advice.reason[:1].upper()}{_unended(advice.reason)[1:]}. No method can be judged until it has."


def _untrained(advice: Advice) -> str:
    return (
        f"The original model has not learned the task, so there is nothing to forget: its {_unended(advice.reason)}. Train better first "
        "(more epochs, another model or learning rate, other data), then judge the methods."
    )


def _useless_gold(advice: Advice) -> str:
    return (
        f"The retrained model has not learned the task: its {_unended(advice.reason)}. Nearness to it says nothing about forgetting. "
        "Train better first (more epochs, another model or learning rate, other data), then judge the methods."
    )


def _nothing_tried(_: Advice) -> str:
    return "No method was tried except retraining itself."


def _methods_failed(advice: Advice) -> str:
    return f"No method has finished, so none can be judged: {_unended(advice.reason)}. Until this is mended, retrain."


def _nothing_to_forget(advice: Advice) -> str:
    start = NOTHING_TO_FORGET
    if advice.shift is not None and advice.shift < _FAR:
        start += f" A difference below {advice.shift:.1f} standard deviations of a retrained model may be missed."
    few = advice.n_forgotten is not None and advice.n_forgotten < _FEW_SAMPLES
    more = advice.repeats.words(5 if advice.n_originals < _FEW_ORIGINALS else 10)
    if few or advice.has_attack:
        return f"{start} Repeat with {more}, and retrain where it matters."
    return f"{start} Add a measure that looks at single samples, such as LiRA or ResidualMemory, or repeat with {more}."


def _use(advice: Advice) -> str:
    nearest = _about(advice)
    if advice.best is None:
        return f"{nearest.label} came nearest to retraining on {_these_seeds(advice)}{_at_cost(nearest)}. {_few_seeds(advice)}"
    if nearest.finding == Finding.INDISTINGUISHABLE:
        what = "its model is indistinguishable from one retrained without the forgotten data"
    elif nearest.finding == Finding.NOT_TOLD_APART:
        what = "its model is closest to one retrained without the forgotten data, and no difference was found"
    else:
        what = "its model is closest to one retrained without the forgotten data, with differences that are harmless or have no direction"
    return f"Use {nearest.label}: {what}{_at_cost(nearest)}.{_choice(advice)}"


def _falls_short(advice: Advice) -> str:
    nearest = _about(advice)
    knows = "still knows more" if nearest.finding == Finding.UNDER_FORGOTTEN else "knows less"
    fault = f"its model {knows} about the forgotten data than a retrained one would"
    if advice.best is None:
        return f"{nearest.label} came nearest to retraining on {_these_seeds(advice)}{_at_cost(nearest)}, but {fault}. {_few_seeds(advice)}"
    return (
        f"No method here forgets exactly as retraining does. {nearest.label} is closest to it{_at_cost(nearest)}, but {fault}. Where that "
        f"is not acceptable, retrain.{_choice(advice)}"
    )


def _choice(advice: Advice) -> str:
    """How sure it is that the method is the nearest."""
    among = advice.among
    nearest = _about(advice)
    if among is None or len(among.chances) < _MIN_COMPARED:
        return ""
    chance = f"It is the nearest with a chance of {100 * among.chances[nearest.label]:.0f}\u00a0%"
    fair = f"{among.cross_fitted:.1f} where other seeds choose than those that measure"
    far = f"at {among.distance:.1f} standard deviations of a retrained model ({fair})"
    if nearest.label != among.label:
        chance = f"It is the cheapest of those shown to be indistinguishable; {among.label} is the nearest"
    ties = f"; not shown to be farther: {_listed(advice.ties)}" if advice.ties else ""
    return f" {chance}, {far}{ties}."


def _too_dear(advice: Advice) -> str:
    nearest = _about(advice)
    return (
        f"Retrain without the data to be forgotten. {nearest.label} came nearest to retraining, but takes {_percent(nearest)} of the time "
        "that retraining takes: it saves nothing."
    )


def _undecided(advice: Advice) -> str:
    nearest = _about(advice)
    reason = f"{advice.reason[:1].lower()}{advice.reason[1:]}"
    if math.isfinite(nearest.distance):
        start = f"{nearest.label} came nearest to retraining on {_these_seeds(advice)}, but whether"
    else:
        start = "Whether"
    return f"{start} any method here has forgotten is undecided: {reason}"


def _no_nearer(advice: Advice) -> str:
    start = (
        "Retrain without the data to be forgotten. No method here is shown to be nearer to a retrained model than the original, which has "
        "forgotten nothing"
    )
    told = f" {_told(advice)}" if advice.is_original_told else ""
    if advice.n_originals < MIN_ORIGINALS:
        return f"{start}.{told} {_few_seeds(advice)}"
    if advice.original is None:
        return f"{start}.{told}"
    nearest = _about(advice)
    apart = f"at {nearest.distance:.1f} standard deviations of a retrained model; the original is at {advice.original:.1f}"
    return f"{start}: of the methods {nearest.label} came nearest, {apart}.{told} More seeds, or other settings, may show more."


def _told(advice: Advice) -> str:
    """That there was something to forget, and who has forgotten it."""
    if advice.none_forgot:
        start = "The original and every method know more than retrained models"
        return f"{start}: there was something to forget, and none has forgotten all of it."
    start = "The original is told from retrained models: there was something to forget"
    if advice.n_originals < MIN_ORIGINALS:
        return f"{start}."
    return f"{start}; {advice.n_originals} originals are too few to tell which methods have forgotten it."


def _unusable(advice: Advice) -> str:
    nearest = _about(advice)
    why = f" {nearest.label}: {nearest.reasons[0]}" if nearest.reasons else ""
    return (
        "Retrain without the data to be forgotten, or try other settings. Every method here has damaged the model or left it as it was."
        f"{why}"
    )


_WORDS: Mapping[Advised, Callable[[Advice], str]] = {
    Advised.NO_GOLD: _no_gold,
    Advised.TRAINING_FAILED: _training_failed,
    Advised.NOTHING_MEASURED: _nothing_measured,
    Advised.UNTRAINED: _untrained,
    Advised.USELESS_GOLD: _useless_gold,
    Advised.NOTHING_TRIED: _nothing_tried,
    Advised.METHODS_FAILED: _methods_failed,
    Advised.NOTHING_TO_FORGET: _nothing_to_forget,
    Advised.USE: _use,
    Advised.FALLS_SHORT: _falls_short,
    Advised.TOO_DEAR: _too_dear,
    Advised.UNDECIDED: _undecided,
    Advised.NO_NEARER: _no_nearer,
    Advised.UNUSABLE: _unusable,
}


def _about(advice: Advice) -> Verdict:
    assert advice.nearest is not None  # noqa: S101 - advice of this kind is about a method
    return advice.nearest


def _few_seeds(advice: Advice) -> str:
    """Why nobody is named."""
    if advice.repeats is Repeats.MODELS:
        return f"To choose a method takes {advice.repeats.words(5)}."
    return f"Another seed may name another method: repeat with {advice.repeats.words(5)} before choosing."


def _these_seeds(advice: Advice) -> str:
    if advice.n_originals >= MIN_ORIGINALS:
        return "these seeds"
    return "this seed" if advice.n_originals == 1 else "these two seeds"


def _listed(labels: Sequence[str]) -> str:
    return joined(labels if len(labels) <= _MAX_TIES else [*labels[:_MAX_TIES], f"{len(labels) - _MAX_TIES} more"])


def _at_cost(verdict: Verdict) -> str:
    return f", at {_percent(verdict)} of the time that retraining takes" if verdict.cost is not None else ""


def _percent(verdict: Verdict) -> str:
    percent = 100 * (verdict.cost or 0.0)
    return f"{percent:,.0f}\u00a0%" if percent >= 2 else f"{percent:.1g}\u00a0%"


def _unended(sentence: str) -> str:
    return sentence.rstrip(". ")
