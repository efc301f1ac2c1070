"""What the figures of a report are drawn from: curves, intervals, histograms, accuracies by class and changes by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ClassShare",
    "Curve",
    "ForgottenRecord",
    "Histogram",
    "Histograms",
    "LayerChanges",
    "Layers",
    "PartitionSize",
    "RepetitionRecord",
    "Roc",
    "RocRange",
    "Rocs",
    "SampleSide",
    "StoredOutputs",
    "ValueInterval",
    "ValuesByName",
    "ValuesOf",
]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve that a measure brought for a figure.

    Args:
        label: The model.
        role: What it is; ``further gold`` for one that tables do not show.
        measure: The measure, as rows call it.
        partition: What was measured.
        seed: Seed of training of the repetition.
        address: Address of the values.
        over: What its interval is over: ``samples`` or ``models``.
        kind: What the curve is, such as ``roc``.
        fpr: Of a ROC curve, the false-positive rates.
        tpr: Of a ROC curve, the true-positive rates.
        n_members: Of a ROC curve, how many samples were to be found.
        more: What else the measure brought, by its own names.
    """

    label: str
    role: str
    measure: str = ""
    partition: str = ""
    seed: int | None = None
    address: str = ""
    over: str = ""
    kind: str = ""
    fpr: tuple[float, ...] = ()
    tpr: tuple[float, ...] = ()
    n_members: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict, metadata={"rest": True})


@dataclass(frozen=True, kw_only=True)
class ValueInterval:
    """The interval that a measure gave to its own value, ``over`` samples or models."""

    label: str
    role: str
    measure: str
    partition: str
    seed: int | None = None
    address: str = ""
    over: str = ""
    value: float | None = None
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PartitionSize:
    """A partition and how many samples it has."""

    name: str
    n: int


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    """How many samples of a class were to be forgotten, of those that were trained on."""

    name: str = field(metadata={"key": "class"})
    forget: int
    training: int


@dataclass(frozen=True, kw_only=True)
class ForgottenRecord:
    """What was to be forgotten, of how much."""

    n: int
    n_training: int
    classes: tuple[ClassShare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of one model's samples of one partition, ``n`` in all."""

    label: str
    partition: str
    n: int
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Counts between common edges."""

    edges: tuple[float, ...]
    series: tuple[Histogram, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Roc:
    """True-positive rates of an attack on one model, with a band and the area below the curve."""

    label: str
    tpr: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class RocRange:
    """Lowest and highest true-positive rates that retrained models have."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rocs:
    """ROC curves at common false-positive rates."""

    fpr: tuple[float, ...]
    series: tuple[Roc, ...] = ()
    gold: RocRange | None = None


@dataclass(frozen=True, kw_only=True)
class ValuesOf:
    """A value for each name, of one model's samples of one partition; None where it has no samples."""

    label: str
    partition: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class ValuesByName:
    """Accuracies of classes, or of groups of samples; ``n_classes`` may be more than the names that are kept."""

    names: tuple[str, ...]
    rows: tuple[ValuesOf, ...] = ()
    n_classes: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerChanges:
    """How much each layer of one model changed, as a share of its weights."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Changes of layers; ``n_layers`` may be more than the names that are kept."""

    names: tuple[str, ...]
    rows: tuple[LayerChanges, ...] = ()
    n_layers: int = 0


@dataclass(frozen=True, kw_only=True)
class SampleSide:
    """Samples that a method forgot least, or most (``side``), with losses of its model, of gold and of the original."""

    label: str
    side: str
    ids: tuple[int, ...] = ()
    loss: tuple[float | None, ...] = ()
    gold: tuple[float | None, ...] = ()
    original: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredOutputs:
    """Where the store has the outputs of one model on one partition."""

    label: str
    partition: str
    address: str


@dataclass(frozen=True, kw_only=True)
class RepetitionRecord:
    """What was kept of the models of the first repetition that are compared with one another.

    Args:
        retain: Partition that methods were to keep.
        forget: Partition that they were to forget; of a stream of requests, that of the last.
        requests: Of a stream of several requests, the partitions of all; empty otherwise.
        also_forgotten: Further partitions of what was forgotten: the nodes or edges that requests take out of a graph, and forgotten
            samples as another graph shows them.
        training: Partition that the original was trained on.
        heldout: Partition that no model saw; empty if there is none.
        seed: Seed of training.
        problem: In a sweep over several problems, which one.
        partitions: Sizes of the partitions.
        forgotten: What was to be forgotten.
        losses: Losses of samples.
        confidences: Log-odds of the right label.
        rocs: An attack by the loss.
        classes: Accuracy of each class.
        groups: Accuracy of each group of samples.
        layers: Changes of weights.
        samples: The samples that were forgotten least and most.
        outputs: Where the store has the outputs.
    """

    retain: str = ""
    forget: str = ""
    requests: tuple[str, ...] = ()
    also_forgotten: tuple[str, ...] = ()
    training: str = ""
    heldout: str = ""
    seed: int | None = None
    problem: str = ""
    partitions: tuple[PartitionSize, ...] = ()
    forgotten: ForgottenRecord | None = None
    losses: Histograms | None = None
    confidences: Histograms | None = None
    rocs: Rocs | None = None
    classes: ValuesByName | None = None
    groups: ValuesByName | None = None
    layers: Layers | None = None
    samples: tuple[SampleSide, ...] = ()
    outputs: tuple[StoredOutputs, ...] = ()
