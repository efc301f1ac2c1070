"""What the page about two models shows, as JSON: predictions, the map of features, and attacks with their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erasure.errors import StoreError
from erasure.kernels import area_under_roc, predicted, rates
from erasure.records.figure_records import Curve
from erasure.ui.attacks import ATTACKS, axis_of, curve_at, in_words, position, scores_of, thresholds
from erasure.ui.embedding import common_map, evenly
from erasure.ui.models import ROLE_NAMES, PartitionOutputs, RunModels
from erasure.ui.predictions import confusion, disagreements, shown_classes

__all__ = ["attack", "embedding", "measured_attack", "measured_attacks", "predictions"]

_MAX_POINTS = 700
"""Samples of each role on the map."""


def predictions(models: RunModels, a: str, b: str, role: str) -> dict[str, Any]:
    """Confusion matrices of two models on the same samples, their difference, and the samples on which they disagree.

    Raises:
        StoreError: If a model is not known, or samples have several labels.
    """
    first, second = models.pair(a, b, role)
    labels, left, right = first.labels.reshape(-1), first.predictions, second.predictions
    n_classes = max(models.n_classes, *(int(each.max(initial=0)) + 1 for each in (labels, left, right)))
    one, two = confusion(labels, left, n_classes), confusion(labels, right, n_classes)
    shown = shown_classes(one, two)
    cut = np.ix_(shown, shown)
    return {
        "a": a,
        "b": b,
        "role": role,
        "samples": ROLE_NAMES[role],
        "partition": models.partitions[role],
        "classes": [models.class_name(k) for k in shown],
        "n_classes": len(np.flatnonzero(one.sum(0) + one.sum(1) + two.sum(0))),
        "first": one[cut].tolist(),
        "second": two[cut].tolist(),
        "difference": (two - one)[cut].tolist(),
        "disagreement": disagreements(first.ids, labels, left, right, models.class_name),
    }


def embedding(models: RunModels, a: str, b: str) -> dict[str, Any]:
    """Two coordinates of each sample under each model, in one common basis.

    Raises:
        StoreError: If a model is not known, or their features cannot be put on one map.
    """
    parts = []
    for role in models.roles:
        if models.has(a, role) and models.has(b, role):
            first, second = models.pair(a, b, role)
            chosen = evenly(first.n, _MAX_POINTS)
            parts.append((role, first, second, chosen, _vectors(first, chosen), _vectors(second, chosen)))
    if not parts:
        raise StoreError(f"{a} and {b} were run on no samples in common.")
    kind = "features" if all(left[1] == right[1] == "features" for *_, left, right in parts) else "logits"
    pairs = [
        (left[0], right[0]) if kind == "features" else (_logits(first, chosen), _logits(second, chosen))
        for _, first, second, chosen, left, right in parts
    ]
    lefts, rights = (np.concatenate(each) for each in zip(*pairs, strict=True))
    kept = np.isfinite(lefts).all(1) & np.isfinite(rights).all(1)
    try:
        one, two, shares = common_map(lefts[kept], rights[kept])
    except ValueError as error:
        raise StoreError(f"The features of {a} and {b} cannot be put on one map: {error}.") from error
    columns = [_columns(models, *part[:4]) for part in parts]
    joined = {name: [value for each in columns for value in each[name]] for name in columns[0]}
    return {
        "a": a,
        "b": b,
        "kind": kind,
        "shares": [round(share, 4) for share in shares],
        "n": int(kept.sum()),
        "n_total": sum(part[1].n for part in parts),
        "n_not_finite": int((~kept).sum()),
        **{name: [value for value, keep in zip(values, kept, strict=True) if keep] for name, values in joined.items()},
        "first": one.round(5).tolist(),
        "second": two.round(5).tolist(),
    }


def _vectors(outputs: PartitionOutputs, chosen: NDArray[Any]) -> tuple[NDArray[Any], str]:
    features = outputs.rows("features", chosen)
    return (features, "features") if features is not None else (np.zeros((0, 0)), "logits")


def _logits(outputs: PartitionOutputs, chosen: NDArray[Any]) -> NDArray[Any]:
    found = outputs.rows("logits", chosen)
    if found is None:
        raise StoreError(f"There are no logits of {outputs.label} in the store; run the experiment again.")
    return outputs.logits_of(found)


def _columns(
    models: RunModels, role: str, first: PartitionOutputs, second: PartitionOutputs, chosen: NDArray[Any]
) -> dict[str, list[Any]]:
    """What the map says of each sample when a reader points at it."""
    ids, labels = first.ids[chosen].tolist(), first.labels[chosen]
    if first.task == "multilabel":
        named = [["several labels"] * len(ids)] * 3
    else:
        named = [
            [models.class_name(int(k)) for k in each]
            for each in (labels.reshape(-1), *(predicted("classification", _logits(one, chosen)) for one in (first, second)))
        ]
    return {"ids": ids, "roles": [role] * len(ids), "labels": named[0], "called_first": named[1], "called_second": named[2]}


# Attacks


def attack(models: RunModels, a: str, b: str, key: str) -> dict[str, Any]:
    """An attack on two models at every threshold of a slider: forgotten against held-out samples, gold beside them.

    Raises:
        StoreError: If there is no such attack, or a model was not run on both kinds of samples.
    """
    if key not in ATTACKS:
        raise StoreError(f"There is no attack {key[:100]!r}; there are {', '.join(ATTACKS)}.")
    if "test" not in models.partitions:
        raise StoreError("No samples that no model saw were measured, so there is nothing to tell the forgotten ones from.")
    labels = [a, b, *([models.gold] if models.gold not in {None, a, b} else [])]
    scores = {
        str(label): (_scores(models, str(label), "forget", key), _scores(models, str(label), "test", key)) for label in labels
    }
    finite = {label: (f[np.isfinite(f)], t[np.isfinite(t)]) for label, (f, t) in scores.items()}
    for label, (members, others) in finite.items():
        if not len(members) or not len(others):
            raise StoreError(f"No output of {label} is a finite number, so it cannot be attacked by a threshold.")
    everything = [np.concatenate(each) for each in finite.values()]
    stops = thresholds(everything)
    axis = axis_of(key, everything)
    edges = axis.pop("edges")
    described = ATTACKS[key]
    return {
        "key": key,
        "title": described.title,
        "rule": described.rule,
        "caption": described.caption,
        "axis": {name: _rounded(value) for name, value in axis.items()},
        "edges": _rounded(edges),
        "at": _rounded(position(key, stops)),
        "shown": [in_words(key, float(stop)) for stop in stops],
        "models": [
            {
                "label": label,
                "is_reference": label not in {a, b},
                "tpr": _rounded(rates(members, stops)),
                "fpr": _rounded(rates(others, stops)),
                "auc": area_under_roc(members, others),
                "n": [len(members), len(others)],
                "n_not_finite": sum(len(all_) - len(some) for all_, some in zip(scores[label], finite[label], strict=True)),
                "forget": np.histogram(position(key, members), bins=edges)[0].tolist(),
                "test": np.histogram(position(key, others), bins=edges)[0].tolist(),
            }
            for label, (members, others) in finite.items()
        ],
    }


def measured_attacks(curves: Sequence[Curve], labels: Sequence[str], seed: Any) -> list[str]:
    """Names of the attacks that measures brought a curve of, for each of some models."""
    found: dict[str, set[str]] = {}
    for curve in _rocs(curves, seed):
        found.setdefault(curve.measure, set()).add(curve.label)
    return [name for name, present in found.items() if set(labels) <= present]


def measured_attack(curves: Sequence[Curve], models: RunModels, a: str, b: str, name: str) -> dict[str, Any]:
    """An attack that a measure carried out, at every share of false alarms; its scores of single samples are not kept.

    Raises:
        StoreError: If there is no curve of it for both models.
    """
    wanted = [a, b, *([models.gold] if models.gold not in {None, a, b} else [])]
    found = {c.label: c for c in _rocs(curves, models.seed) if c.measure == name and c.label in wanted}
    if a not in found or b not in found:
        raise StoreError(f"There is no curve of the attack {name[:100]!r} on both {a} and {b}.")
    at = np.unique(np.concatenate([[0.0, 1.0], *(np.asarray(curve.fpr, float) for curve in found.values())]))
    return {
        "key": name,
        "title": name,
        "rule": "false alarms of at most",
        "caption": "As the measure carried it out. What it scored each sample is not kept, so the slider moves the share of false alarms.",
        "axis": None,
        "edges": [],
        "at": _rounded(at),
        "shown": [f"{100 * x:.3g} %" for x in at],
        "models": [
            {
                "label": label,
                "is_reference": label not in {a, b},
                "tpr": _rounded(curve_at(found[label].fpr, found[label].tpr, at)),
                "fpr": _rounded(at),
                "auc": None,
                "n": None,
                "n_not_finite": 0,
            }
            for label in dict.fromkeys(str(each) for each in wanted)
            if label in found
        ],
    }


def _rocs(curves: Sequence[Curve], seed: Any) -> list[Curve]:
    return [c for c in curves if c.kind == "roc" and c.seed == seed and len(c.fpr) == len(c.tpr) > 1]


def _scores(models: RunModels, label: str, role: str, key: str) -> NDArray[Any]:
    outputs = models.outputs(label, role)
    logits = outputs.logits if key != "loss" else np.zeros((0, 0))
    return scores_of(key, outputs.losses, logits, is_multilabel=outputs.task == "multilabel")


def _rounded(values: Any) -> Any:
    """Numbers for a page: six digits are more than it can draw."""
    if isinstance(values, str):
        return values
    if isinstance(values, list | tuple | np.ndarray):
        return [_rounded(value) for value in values]
    return float(f"{float(values):.6g}") + 0.0
