"""Guards: what makes the rows of an unlearned model worth a second look, whatever was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from erasure.functional.counts import association, majority_share
from erasure.functional.diverged import weight_that_diverged
from erasure.functional.losses import correctness, predictions
from erasure.functional.weights import changed_share
from erasure.measures.contract import Evaluation, Outputs

__all__ = ["GuardCheck", "Status", "collapse_threshold", "over_forgetting_margin", "run_guards"]

Status: TypeAlias = Literal["ok", "no-op", "collapsed", "non-finite", "over-forgotten"]

_MIN_MARGIN = 0.05
_SAME_ACCURACY = 5e-4
"""Accuracies that are printed alike."""
_MOSTLY = 0.5


@dataclass(frozen=True)
class GuardCheck:
    """What the guards found.

    Args:
        status: ``ok``, ``non-finite`` (a weight or a logit is, or is beyond its bound), ``no-op`` (no weight changed), ``collapsed``
            (predicts the retain set no better than a constant) or ``over-forgotten`` (predicts the forget set clearly worse than gold).
        reason: One sentence; empty if ``ok``.
        gold: Why gold is not a valid reference: its training has diverged, or it predicts the retain set no better than a constant.
            Empty if it is one.
        original: Why the original has learned nothing that could be forgotten, likewise; where the retain set is of one class, by
            what it predicts of both sets.
    """

    status: Status
    reason: str = ""
    gold: str = ""
    original: str = ""


def collapse_threshold(chance: float, n: int) -> float:
    r"""Accuracy up to which a model cannot be distinguished from a constant, :math:`c + 3 \sqrt{c (1 - c) / n}`.

    Args:
        chance: Share of the most frequent class, in [0, 1].
        n: Number of samples.

    Example:
        >>> round(collapse_threshold(0.5, 100), 9)
        0.65
    """
    return chance + 3 * math.sqrt(chance * (1 - chance) / n)


def over_forgetting_margin(right: Tensor, gold_right: Tensor, *, floor: float = 0.0) -> float:
    r"""How far a model's forget accuracy may be below gold's before it counts as over-forgotten.

    The largest of 0.05, three times the noise floor, and two standard errors of the difference, which is
    :math:`2 \sqrt{\sum_i (r_i - g_i)^2} / n` for paired samples (McNemar): a forget set of a few samples accuses nobody.

    Args:
        right: Whether the model predicts each sample correctly, ``(n,)``, ``n >= 1``.
        gold_right: The same of gold.
        floor: Difference of forget accuracy between two golds.

    Example:
        >>> over_forgetting_margin(torch.zeros(4), torch.tensor([1.0, 0.0, 0.0, 0.0]))
        0.5
    """
    standard_error = math.sqrt(float((right - gold_right).double().square().sum())) / len(right)
    return max(_MIN_MARGIN, 3 * floor, 2 * standard_error)


def run_guards(evaluation: Evaluation, *, forget: str = "forget", retain: str = "retain", floor: float = 0.0) -> GuardCheck:
    """What is conspicuous about an unlearned model; the first of ``non-finite``, ``no-op``, ``collapsed``, ``over-forgotten``.

    Collapse and over-forgetting are looked for where the partition exists. A model has not collapsed where the original or gold itself is
    no better than a constant, and nothing is over-forgotten without a valid gold. After whole classes were forgotten gold's
    forget accuracy is about 0, so no model is over-forgotten.

    Args:
        evaluation: The model, with the original as reference, and gold if there is one.
        forget: The forgotten samples.
        retain: The kept samples.
        floor: Difference of forget accuracy between two golds, if known.
    """
    useless, untrained = (_useless(evaluation, forget, retain, model) for model in ("gold", "original"))
    found = _found(evaluation, forget, retain, floor, useless=bool(useless), untrained=bool(untrained))
    return replace(found, gold=useless, original=untrained)


def _found(evaluation: Evaluation, forget: str, retain: str, floor: float, *, useless: bool, untrained: bool) -> GuardCheck:
    model = evaluation.subject.load()
    state = model.state_dict()
    reason = weight_that_diverged(dict(model.named_parameters()), dict(model.named_buffers()))
    if reason is not None:
        return GuardCheck("non-finite", reason)
    present = [name for name in dict.fromkeys((forget, retain)) if _has(evaluation, name)]
    for partition in present:
        if evaluation.subject.outputs(partition).diverged:
            return GuardCheck("non-finite", f'some logits on "{partition}" are not finite or run away')
    if "original" in evaluation.references and not changed_share(evaluation.model("original").load().state_dict(), state):
        return GuardCheck("no-op", "every weight is the original's")
    can_collapse = retain in present and not useless and not untrained
    reason = _constant(evaluation.outputs(retain), f'"{retain}"') if can_collapse else None
    if reason is not None:
        return GuardCheck("collapsed", reason)
    is_compared = forget in present and "gold" in evaluation.references and not useless
    reason = _over_forgetting(evaluation, forget, floor) if is_compared else None
    return GuardCheck("over-forgotten", reason) if reason is not None else GuardCheck("ok")


def _has(evaluation: Evaluation, partition: str) -> bool:
    return partition in evaluation.partition_ids and len(evaluation.ids(partition)) > 0


def _useless(evaluation: Evaluation, forget: str, retain: str, model: Literal["original", "gold"]) -> str:
    """Why a reference is not valid; empty if it is, or if there is no reference."""
    if model not in evaluation.references or not _has(evaluation, retain):
        return ""
    kept = evaluation.model(model).outputs(retain)
    if kept.diverged:
        return f'training has diverged: logits on "{retain}" are not finite or run away'
    if model == "original" and _is_of_one_class(kept) and _has(evaluation, forget):
        # The original has learned from both, and of one class alone nobody can tell who knows it from who says nothing else.
        forgotten = evaluation.model(model).outputs(forget)
        labels, logits, losses, ids = (
            torch.cat([getattr(kept, name), getattr(forgotten, name)]) for name in ("labels", "logits", "losses", "ids")
        )
        both = Outputs(ids=ids, logits=logits, losses=losses, labels=labels, task=kept.task)
        return _constant(both, f'"{retain}" and "{forget}"') or ""
    return _constant(kept, f'"{retain}"') or ""


def _is_of_one_class(outputs: Outputs) -> bool:
    return outputs.task != "generation" and majority_share(outputs.task, outputs.labels) == 1


def _constant(outputs: Outputs, where: str) -> str | None:
    """Why a model cannot be distinguished from one that always answers the most frequent class, or None if it can.

    Both its accuracy and what it knows of rare classes must be within three standard errors of such a model's: beside a class of 95 %
    hardly any model is more often right than a constant, and most have learned something. Where all samples are of one class, which
    forgetting one of two classes leaves, a constant prediction is right; only a model that is mostly wrong is conspicuous.
    """
    if outputs.task == "generation":
        return _repeats_one_token(outputs, where)
    chance, start = majority_share(outputs.task, outputs.labels), f"accuracy {outputs.accuracy:.3f} on {where}"
    if _is_of_one_class(outputs):
        return f"{start}, all of one class, is mostly wrong" if outputs.accuracy < _MOSTLY else None
    threshold = collapse_threshold(chance, len(outputs))
    if outputs.accuracy > threshold or association(outputs.task, predictions(outputs.task, outputs.logits), outputs.labels) > 3:
        return None
    if abs(outputs.accuracy - chance) < _SAME_ACCURACY:
        return f"{start} is that of a constant prediction ({chance:.3f})"
    if outputs.accuracy < 2 * chance - threshold:
        return f"{start} is below that of a constant prediction ({chance:.3f})"
    error = threshold - chance
    return f"{start} cannot be distinguished from that of a constant prediction ({chance:.3f} ± {error:.3f} with {len(outputs)} samples)"


def _repeats_one_token(outputs: Outputs, where: str) -> str | None:
    """Why a language model cannot be told from one that always says the most frequent token, or None if it can."""
    labels = outputs.labels[outputs.tokens.mask]
    chance = majority_share("classification", labels)
    # Tokens of one answer are not independent; answers are.
    threshold = collapse_threshold(chance, len(outputs))
    if outputs.accuracy > threshold:
        return None
    return (
        f"{outputs.accuracy:.3f} of the tokens on {where} are right, no more than always saying the most frequent one would be "
        f"({chance:.3f} ± {threshold - chance:.3f} with {len(outputs)} answers)"
    )


def _over_forgetting(evaluation: Evaluation, forget: str, floor: float) -> str | None:
    outputs, gold = evaluation.outputs(forget), evaluation.outputs(forget, "gold")
    margin = over_forgetting_margin(_right(outputs), _right(gold), floor=floor)
    if gold.accuracy - outputs.accuracy <= margin:
        return None
    return f'accuracy {outputs.accuracy:.3f} on "{forget}" is more than {margin:.3f} below gold\'s {gold.accuracy:.3f}'


def _right(outputs: Outputs) -> Tensor:
    if outputs.task == "generation":
        return outputs.tokens.hit_shares
    return correctness(outputs.task, outputs.logits, outputs.labels)
