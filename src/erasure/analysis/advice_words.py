"""Advice in sentences, for somebody who has never heard of unlearning."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from erasure.analysis.advice import LEAST_ORIGINALS, Advice, Advised
from erasure.analysis.verdict_words import joined, listed
from erasure.analysis.verdicts import Judgement

__all__ = ["recommendation"]

_FEW_SAMPLES = 30
"""Forgotten samples with which accuracies and attacks on all of them together seldom show anything."""
_MOST_TIES = 3


def recommendation(advice: Advice) -> str:
    """What to do, in words that can stand alone."""
    return _WORDS[advice.kind](advice)


def _no_gold(_: Advice) -> str:
    return "There is no retrained model in this run, so nobody can say which method forgets best. Add a partition to retrain on."


def _training_failed(advice: Advice) -> str:
    return f"Training itself has failed: {_unended(advice.reason)}. No method can be judged until it works."


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


def _blind(advice: Advice) -> str:
    start = (
        "These measures cannot show whether a method has forgotten: by them the original model, which has forgotten nothing, cannot be "
        f"told from a retrained one either ({listed(advice.blind)})."
    )
    if advice.n_forgotten is not None and advice.n_forgotten < _FEW_SAMPLES:
        return (
            f"{start} With {advice.n_forgotten} forgotten samples they seldom can. Repeat with more seeds (--seeds 0-4), and "
            "retrain where it matters."
        )
    if any(c.is_attack for c in advice.blind):
        return f"{start} Repeat with more seeds (--seeds 0-4); if it stays so, these samples leave no trace that can be measured here."
    return f"{start} Add one that looks at single samples, such as LiRA, or repeat with more seeds."


def _use(advice: Advice) -> str:
    nearest = _about(advice)
    is_told = nearest.verdict not in {"indistinguishable", "not-told-apart"}
    if advice.best is None:
        how = "" if is_told else ": its model cannot be told from one retrained without the forgotten data"
        return f"{nearest.label} came nearest to retraining{how}{_at_cost(nearest)}. {_few_seeds(advice)}"
    how = "is closest to" if is_told else "cannot be told from"
    among = f" and is the cheapest of the {len(advice.ties) + 1} that do so" if advice.ties else ""
    return f"Use {nearest.label}: its model {how} one retrained without the forgotten data{_at_cost(nearest)}{among}."


def _falls_short(advice: Advice) -> str:
    nearest = _about(advice)
    degree = "a little" if nearest.is_slight else "clearly"
    knows = f"still knows {degree} more" if nearest.verdict == "under-forgotten" else f"knows {degree} less"
    start = (
        f"No method here forgets exactly as retraining does. {nearest.label} came nearest{_at_cost(nearest)}, but its model {knows} about "
        "the forgotten data than a retrained one would. Where that is not acceptable, retrain."
    )
    return start if advice.best is not None else f"{start} {_few_seeds(advice)}"


def _too_dear(advice: Advice) -> str:
    nearest = _about(advice)
    return (
        f"Retrain without the data to be forgotten. {nearest.label} came nearest to retraining, but takes {_percent(nearest)} of the time "
        "that retraining takes: it saves nothing."
    )


def _undecided(advice: Advice) -> str:
    nearest = _about(advice)
    floor = ' Give the evaluator a "floor_repeats" of at least 1.' if "floor" in advice.reason else ""
    is_compared = any(c.question == "forgetting" for c in nearest.comparisons)
    start = f"{nearest.label} came nearest to the retrained model, but whether" if is_compared else "Whether"
    return f"{start} any method here has forgotten cannot be told: {advice.reason[:1].lower()}{advice.reason[1:]}{floor}"


def _no_nearer(advice: Advice) -> str:
    return (
        "Retrain without the data to be forgotten. On the forgotten samples no method here comes nearer to a retrained model than the "
        "original, which has forgotten nothing."
    )


def _unusable(advice: Advice) -> str:
    nearest = _about(advice)
    why = f" {nearest.label}: {nearest.evidence[0]}" if nearest.evidence else ""
    return (
        "Retrain without the data to be forgotten, or try other settings. Every method here has damaged the model or left it as it was."
        f"{why}"
    )


_WORDS: Mapping[Advised, Callable[[Advice], str]] = {
    Advised.NO_GOLD: _no_gold,
    Advised.TRAINING_FAILED: _training_failed,
    Advised.UNTRAINED: _untrained,
    Advised.USELESS_GOLD: _useless_gold,
    Advised.NOTHING_TRIED: _nothing_tried,
    Advised.METHODS_FAILED: _methods_failed,
    Advised.BLIND: _blind,
    Advised.USE: _use,
    Advised.FALLS_SHORT: _falls_short,
    Advised.TOO_DEAR: _too_dear,
    Advised.UNDECIDED: _undecided,
    Advised.NO_NEARER: _no_nearer,
    Advised.UNUSABLE: _unusable,
}


def _about(advice: Advice) -> Judgement:
    assert advice.nearest is not None  # noqa: S101 - advice of this kind is about a method
    return advice.nearest


def _few_seeds(advice: Advice) -> str:
    """Why nobody is named."""
    ties = joined(advice.ties[:_MOST_TIES]) if len(advice.ties) <= _MOST_TIES else f"{len(advice.ties)} further methods"
    also = f"{ties} did as well. " if ties else ""
    n = advice.n_originals
    return (
        f"{also}{'One seed names' if n == 1 else 'Two seeds name'} no method: another may name another. Repeat with at least "
        f"{LEAST_ORIGINALS} (--seeds 0-{LEAST_ORIGINALS - 1}) before choosing."
    )


def _at_cost(judgement: Judgement) -> str:
    return f", at {_percent(judgement)} of the time that retraining takes" if judgement.cost is not None else ""


def _percent(judgement: Judgement) -> str:
    percent = 100 * (judgement.cost or 0.0)
    return f"{percent:,.0f}\u00a0%" if percent >= 2 else f"{percent:.1g}\u00a0%"


def _unended(sentence: str) -> str:
    return sentence.rstrip(". ")
