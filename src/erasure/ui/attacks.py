"""Attacks with a threshold that can be moved: who is called "was in the training data" at each. Pure: arrays in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erasure.kernels import predicted

__all__ = ["ATTACKS", "Attack", "curve_at", "scores_of", "thresholds"]

_MIN_LOSS = 1e-6
_MAX_ODDS = 14.0
_PER_MODEL = 120
_BINS = 40


@dataclass(frozen=True)
class Attack:
    """An attack that looks at one number of each sample.

    Args:
        key: Its name in addresses.
        title: Its name for people.
        rule: Whom it calls a member, the threshold left out.
        caption: What it is.
    """

    key: str
    title: str
    rule: str
    caption: str


ATTACKS: Mapping[str, Attack] = {
    attack.key: attack
    for attack in (
        Attack(
            "loss",
            "Loss",
            "loss of at most",
            "Calls a sample seen in training if its loss is small; the attacker knows the label.",
        ),
        Attack(
            "confidence",
            "Confidence",
            "largest probability of at least",
            "Calls a sample seen in training if the model is sure of some class; the attacker does not know the label.",
        ),
    )
}


def scores_of(attack: str, losses: NDArray[Any], logits: NDArray[Any], *, is_multilabel: bool = False) -> NDArray[Any]:
    """The attack's number of each sample; higher means more likely seen in training.

    ``loss``: minus the loss. ``confidence``: log-odds of the class with the largest probability; the mean over labels where a sample
    has several.

    Args:
        attack: Key of the attack.
        losses: ``(n,)``.
        logits: ``(n, K)``, one column a class (or a label).
        is_multilabel: Whether columns are labels of their own.
    """
    if attack == "loss":
        return -losses
    if is_multilabel:
        return np.asarray(np.abs(logits).mean(1))
    first = predicted("classification", logits)
    rows = np.arange(len(logits))
    top = logits[rows, first]
    others = logits.copy()
    others[rows, first] = -np.inf
    most = others.max(1, initial=-np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = most + np.log(np.exp(others - most[:, None]).sum(1))
    return np.asarray(np.where(np.isfinite(most), top - rest, np.inf))


def thresholds(scores: Sequence[NDArray[Any]], most: int = _PER_MODEL) -> NDArray[Any]:
    """Where a slider may stop: scores of every model, close to one another among the highest, from calling nobody to calling all.

    Args:
        scores: Finite scores, an array for each model.
        most: Stops that each model brings.

    Returns:
        Descending; the first is above every score.
    """
    stops = []
    for each in scores:
        ordered = np.sort(each)[::-1]
        n = len(ordered)
        if n:
            ranks = np.concatenate([np.geomspace(1, n, most // 2), np.linspace(1, n, most - most // 2)]) - 1
            stops.append(ordered[np.unique(ranks.round().astype(np.int64))])
    found = np.unique(np.concatenate(stops)) if stops else np.zeros(1)
    above = np.nextafter(found[-1], np.inf)
    return np.concatenate([found, [above]])[::-1]


def curve_at(fpr: Sequence[float], tpr: Sequence[float], at: NDArray[Any]) -> list[float]:
    """The highest true-positive rate of a curve at no more than each false-positive rate."""
    order = np.lexsort((tpr, fpr))
    xs, ys = np.asarray(fpr, float)[order], np.maximum.accumulate(np.asarray(tpr, float)[order])
    found = np.searchsorted(xs, at + 1e-12, "right")
    return [float(ys[i - 1]) if i else 0.0 for i in found]


def axis_of(attack: str, scores: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """The axis on which distributions are drawn: its bins, its marks, and where a score is on it."""
    if attack == "loss":
        top = max(max((float(-each.min()) for each in scores if len(each)), default=1.0), 10 * _MIN_LOSS)
        low, high = float(np.log10(_MIN_LOSS)), float(np.log10(top * 1.0001))
        marks = [(float(k), _power(k)) for k in range(-6, int(np.floor(high)) + 1, 2)]
        title = "loss, logarithmic"
    else:
        low, high = -2.0, _MAX_ODDS
        marks = [(0.0, "50 %"), (2.197, "90 %"), (4.595, "99 %"), (6.907, "99.9 %"), (11.513, "99.999 %")]
        title = "largest probability"
    return {"low": low, "high": high, "marks": marks, "title": title, "edges": np.linspace(low, high, _BINS + 1)}


def position(attack: str, scores: NDArray[Any]) -> NDArray[Any]:
    """Where scores are on the axis of :func:`axis_of`; what is beyond its ends is at them."""
    if attack == "loss":
        return np.asarray(np.log10(np.maximum(-scores, _MIN_LOSS)))
    return np.asarray(np.clip(scores, -2.0, _MAX_ODDS))


def in_words(attack: str, score: float) -> str:
    """A threshold as people say it."""
    if attack == "loss":
        return f"{max(-score, 0.0):.3g}"
    inverse = 1 / (1 + np.exp(np.clip(score, -700, 700)))
    if inverse < 1e-15:
        return "100 %"
    digits = max(1, int(np.ceil(-np.log10(inverse))) - 1) if inverse < 0.1 else 1
    return f"{100 * (1 - inverse):.{digits}f} %"


def _power(k: int) -> str:
    return f"{10.0**k:.{max(0, -k)}f}"
