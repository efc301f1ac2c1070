"""Distributions, classes, layers and samples of the models of one repetition, from what the store has."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.errors import RequirementNotMet
from erasure.functional.losses import correctness
from erasure.functional.membership import auc, auc_interval
from erasure.measures.contract import Outputs
from erasure.planning.plan import Plan, Repetition, ReportedModel
from erasure.records.evidence import MissingRecord
from erasure.records.figure_records import (
    ClassShare,
    ForgottenRecord,
    Histogram,
    Histograms,
    LayerChanges,
    Layers,
    PartitionSize,
    RepetitionRecord,
    Roc,
    RocRange,
    Rocs,
    SampleSide,
    StoredOutputs,
    ValuesByName,
    ValuesOf,
)
from erasure.stages.blocks import split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.inference import outputs_address, outputs_of
from erasure.stages.session import Session

__all__ = ["ModelEvidence", "Named"]

_BINS = 40
_MIN_LOSS, _MAX_LOSS = 1e-6, 1e2
"""Ends of the axis of losses, the same in every run, so that runs can be put together; losses beyond are counted at the ends."""
_MAX_ODDS = 14.0
_ROC_POINTS = 50
_MAX_MODELS = 60
_MAX_CLASSES = 100
_MAX_LAYERS = 60
_MAX_BYTES = 2 << 30
"""Weights that are read to compare layers."""
_N_SAMPLES = 8


@dataclass(frozen=True)
class Named:
    """A model and how rows call it."""

    label: str
    subject: ReportedModel


class ModelEvidence:
    """What figures show of one group of models.

    Args:
        plan: What was run.
        session: The session that ran it.
        failed: Address to reason of what could not be computed.
        group: The models that are compared with one another.
        named: Original, gold and unlearned models with the names that rows have.
    """

    def __init__(
        self, plan: Plan, session: Session, failed: Mapping[str, str], repetition: Repetition, named: Sequence[Named]
    ) -> None:
        self.session: Session = session
        self.failed: Mapping[str, str] = failed
        self.group: Repetition = repetition
        self.data: DataSpec = plan.stages[repetition.original.model].data
        self.partitions: Mapping[str, Tensor] = session.loaded(self.data).partitions
        self.dataset: Dataset = session.loaded(self.data).dataset
        self.training: str = self.data.predictor.training_set
        entries = [reported.entry for reported in repetition.unlearned if reported.entry is not None]
        self.forget: str = entries[0].unlearner.forget if entries else "forget"
        self.requests: tuple[str, ...] = max((entry.unlearner.forgotten() for entry in entries), key=len, default=(self.forget,))
        self.n_left_out: int = max(0, len(named) - _MAX_MODELS)
        self.models: list[Named] = [each for each in named if each.subject.model not in failed][:_MAX_MODELS]

    def record(self) -> tuple[RepetitionRecord, list[MissingRecord]]:
        """Every piece that there is, and the reason for each that there is none of."""
        found: dict[str, Any] = {
            "retain": self.group.retain,
            "forget": self.forget,
            "requests": self.requests if len(self.requests) > 1 else (),
            "also_forgotten": tuple(self._also_forgotten()),
            "training": self.training,
            "heldout": self.heldout,
            "seed": self.group.seeds.train,
        }
        reasons: list[MissingRecord] = []
        makers: dict[str, Callable[[], Any]] = {
            "partitions": self._sizes,
            "forgotten": self._forgotten,
            "losses": self._losses,
            "confidences": self._confidences,
            "rocs": self._rocs,
            "classes": self._classes,
            "groups": self._groups,
            "layers": self._layers,
            "samples": self._samples,
            "outputs": self._stored,
        }
        for name, make in makers.items():
            try:
                found[name] = make()
            except Exception as error:  # a picture that cannot be drawn must not cost the results
                reasons.append(MissingRecord(what=name, reason=str(error).strip() or type(error).__name__))
        if self.n_left_out:
            reasons.append(MissingRecord(what="models", reason=f"distributions are kept of {_MAX_MODELS} models, not of all"))
        return RepetitionRecord(**found), reasons

    # Partitions

    def _also_forgotten(self) -> list[str]:
        """What requests take out of a graph, in part or together, and forgotten samples as another graph shows them."""
        settled = [self.partitions[name] for splitter in self.data.splitters for name in splitter.settles()]
        if not settled:
            return []
        gone = torch.cat(settled)
        found = {self.forget: None}
        found |= dict.fromkeys(name for name, ids in self.partitions.items() if len(ids) and bool(torch.isin(ids, gone).all()))
        for splitter in self.data.splitters:
            if splitter.shows_again() in found:
                found[splitter.parts[0]] = None
        return [name for name in found if name != self.forget]

    @functools.cached_property
    def heldout(self) -> str:
        """The partition that no model saw: ``test``, or the first one apart from the training set that was measured."""
        used = self.partitions.get(self.training, torch.empty(0, dtype=torch.int64))
        candidates = [name for name in ("test", *self.partitions) if name in self.partitions and name != "all"]
        apart = (
            name
            for name in dict.fromkeys(candidates)
            if len(self.partitions[name]) and not bool(torch.isin(self.partitions[name], used).any())
        )
        return next((name for name in apart if self._outputs(self.group.original.model, name) is not None), "")

    @property
    def _shown(self) -> list[str]:
        return [name for name in (self.forget, self.group.retain, self.heldout) if name in self.partitions]

    def _sizes(self) -> tuple[PartitionSize, ...]:
        return tuple(PartitionSize(name=name, n=len(ids)) for name, ids in self.partitions.items())

    def _forgotten(self) -> ForgottenRecord:
        """How many samples of each class were to be forgotten, by all requests together, and how many of it were kept."""
        forget = torch.cat([self.partitions[name] for name in self.requests])
        training = self.partitions[self.training]
        classes: list[ClassShare] = []
        y = self.dataset.y
        if y.dim() == 1 and len(forget):
            wanted = torch.bincount(y[forget.cpu()].long(), minlength=self.dataset.n_classes).tolist()
            there = torch.bincount(y[training.cpu()].long(), minlength=self.dataset.n_classes).tolist()
            classes = [
                ClassShare(name=self.dataset.class_name(k), forget=wanted[k], training=there[k])
                for k in range(min(len(wanted), 1000))
                if wanted[k]
            ]
        return ForgottenRecord(n=len(forget), n_training=len(training), classes=tuple(classes))

    def _outputs(self, model: str, partition: str) -> Outputs | None:
        return outputs_of(self.session, self.data, model, partition) if self._place(model, partition) else None

    def _place(self, model: str, partition: str) -> str:
        """Address of a model's outputs on a partition; empty if the run has not looked at them."""
        made, _ = split_member(model)
        if partition not in self.data.partition_addresses or made in self.failed or not len(self.partitions[partition]):
            return ""
        where = outputs_address(self.data, made, partition)
        return where if self.session.store.contains(where) else ""

    def _each(self) -> list[tuple[str, str, Outputs]]:
        """Label, partition and outputs, wherever the run looked at them."""
        found = [(n.label, p, self._outputs(n.subject.model, p)) for n in self.models for p in self._shown]
        kept = [(label, partition, outputs) for label, partition, outputs in found if outputs is not None]
        if not kept:
            raise RequirementNotMet("no model was run on the forget, retain or held-out samples")
        return kept

    # Distributions

    def _losses(self) -> Histograms:
        edges = np.geomspace(_MIN_LOSS, _MAX_LOSS, _BINS + 1)
        each = ((label, partition, outputs.losses.double().numpy()) for label, partition, outputs in self._each())
        return self._histograms(((label, p, np.clip(x, _MIN_LOSS, _MAX_LOSS)) for label, p, x in each), edges)

    def _confidences(self) -> Histograms:
        """Histograms of the log-odds of the right label, in which confident models still differ; of an answer, of its probability."""
        edges = np.linspace(-_MAX_ODDS, _MAX_ODDS, _BINS + 1)
        return self._histograms(((label, p, _log_odds(outputs)) for label, p, outputs in self._each()), edges)

    @staticmethod
    def _histograms(each: Any, edges: Any) -> Histograms:
        series = []
        for label, partition, values in each:
            counts, _ = np.histogram(values[np.isfinite(values)], bins=edges)
            series.append(Histogram(label=label, partition=partition, n=len(values), counts=tuple(counts.tolist())))
        return Histograms(edges=tuple(edges.tolist()), series=tuple(series))

    def _rocs(self) -> Rocs:
        """An attack that calls a sample forgotten if its loss is small, forgotten against held-out samples."""
        if not self.heldout:
            raise RequirementNotMet("no partition that no model saw was measured")
        n_negatives = len(self.partitions[self.heldout])
        grid = np.unique(np.concatenate([np.geomspace(1 / n_negatives, 1, _ROC_POINTS), [1.0]]))
        series = []
        for named in self.models:
            curve = self._roc(named.label, named.subject.model, grid)
            if curve is not None:
                series.append(curve)
        if not series:
            raise RequirementNotMet("no model was run on both the forget and the held-out samples")
        golds = [self.group.gold, *self.group.floors] if self.group.gold is not None else []
        curves = [c.tpr for c in (self._roc("gold", gold.model, grid) for gold in golds) if c is not None]
        band = None
        if curves:
            low, high = (tuple(end(curves, 0).tolist()) for end in (np.min, np.max))
            band = RocRange(low=low, high=high, n=len(curves))
        return Rocs(fpr=tuple(grid.tolist()), series=tuple(series), gold=band)

    def _roc(self, label: str, model: str, grid: Any) -> Roc | None:
        forget, heldout = self._outputs(model, self.forget), self._outputs(model, self.heldout)
        if forget is None or heldout is None:
            return None
        positives, negatives = -forget.losses.double().numpy(), np.sort(-heldout.losses.double().numpy())[::-1]
        if not np.isfinite(positives).all() or not np.isfinite(negatives).all():
            return None
        # A sample is called forgotten if it scores above every held-out one but the first k.
        allowed = np.floor(grid * len(negatives) + 1e-9).astype(int)
        thresholds = np.where(allowed < len(negatives), negatives[np.minimum(allowed, len(negatives) - 1)], -np.inf)
        tpr = (positives[None, :] > thresholds[:, None]).mean(1)
        low, high = _wilson(tpr, len(positives))
        members, others = -forget.losses.double(), -heldout.losses.double()
        auc_low, auc_high = auc_interval(members, others)
        return Roc(
            label=label,
            tpr=tuple(tpr.tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            auc=auc(members, others),
            auc_low=auc_low,
            auc_high=auc_high,
            n=len(positives),
        )

    # Classes and groups

    def _classes(self) -> ValuesByName:
        if self.dataset.task == "generation":
            raise RequirementNotMet("answers have no classes")
        names = [self.dataset.class_name(k) for k in range(min(self.dataset.n_classes, _MAX_CLASSES))]
        rows = []
        for label, partition, outputs in self._each():
            right, labels = _right(outputs), outputs.labels
            if labels.dim() == 2:  # several labels: each is a class of its own
                predicted = outputs.predictions.eq(labels).double().mean(0)
                values = predicted[: len(names)].tolist()
            else:
                values = _by_group(right, labels, len(names))
            rows.append(ValuesOf(label=label, partition=partition, values=tuple(values)))
        return ValuesByName(names=tuple(names), rows=tuple(rows), n_classes=self.dataset.n_classes)

    def _groups(self) -> ValuesByName:
        z = self.dataset.z
        if z is None or z.dim() != 1:
            raise RequirementNotMet("the data has no groups")
        kinds = torch.unique(z)[:_MAX_CLASSES]
        place = torch.searchsorted(kinds, z.contiguous())
        names = [str(self.dataset.z_names[k]) if k < len(self.dataset.z_names) else str(k) for k in kinds.tolist()]
        rows = tuple(
            ValuesOf(label=label, partition=p, values=tuple(_by_group(_right(outputs), place[outputs.ids], len(names))))
            for label, p, outputs in self._each()
        )
        return ValuesByName(names=tuple(names), rows=rows, n_classes=len(names))

    # Weights

    def _layers(self) -> Layers:
        original = self._state(self.group.original)
        size = sum(value.numel() * value.element_size() for value in original.values())
        if size * len(self.models) > _MAX_BYTES:
            raise RequirementNotMet(f"the weights of {len(self.models)} models are too many to compare ({size >> 20} MiB each)")
        layers: dict[str, list[str]] = {}
        for name in self.session.model(self.data, self.group.original.model).state_dict():  # in the order of the network
            if original[name].is_floating_point():
                layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
        kept = list(layers)[:_MAX_LAYERS]
        rows = []
        for named in self.models:
            if named.subject.role == "original":
                continue
            state = self._state(named.subject)
            changes = tuple(_relative_change(original, state, layers[layer]) for layer in kept)
            rows.append(LayerChanges(label=named.label, values=changes))
        return Layers(names=tuple(kept), rows=tuple(rows), n_layers=len(layers))

    def _state(self, reported: ReportedModel) -> Mapping[str, Tensor]:
        return self.session.store.open(reported.model).tensors("model")

    # Samples

    def _stored(self) -> tuple[StoredOutputs, ...]:
        """Where the store has what each model says about each sample; ``erasure ui`` reads it there."""
        found = [(n.label, p, self._place(n.subject.model, p)) for n in self.models for p in self._shown]
        return tuple(StoredOutputs(label=label, partition=p, address=where) for label, p, where in found if where)

    def _samples(self) -> tuple[SampleSide, ...]:
        """Forgotten samples whose loss is farthest below gold's (least forgotten) and farthest above (most forgotten)."""
        if self.group.gold is None:
            raise RequirementNotMet("there is no gold model to compare losses with")
        gold = self._outputs(self.group.gold.model, self.forget)
        original = self._outputs(self.group.original.model, self.forget)
        if gold is None or original is None:
            raise RequirementNotMet("gold was not run on the forget set")
        found = []
        for named in self.models:
            outputs = self._outputs(named.subject.model, self.forget)
            if named.subject.role != "unlearned" or outputs is None:
                continue
            difference = (outputs.losses - gold.losses).double().nan_to_num(0.0)
            order = torch.argsort(difference, stable=True)
            n = min(_N_SAMPLES, len(order) // 2)
            for side, chosen in (("least", order[:n]), ("most", order.flip(0)[:n])):
                found.append(
                    SampleSide(
                        label=named.label,
                        side=side,
                        ids=tuple(outputs.ids[chosen].tolist()),
                        loss=tuple(outputs.losses[chosen].tolist()),
                        gold=tuple(gold.losses[chosen].tolist()),
                        original=tuple(original.losses[chosen].tolist()),
                    )
                )
        return tuple(found)


def _right(outputs: Outputs) -> Tensor:
    if outputs.task == "generation":
        return outputs.tokens.hit_shares
    return correctness(outputs.task, outputs.logits, outputs.labels).double()


def _confidence(outputs: Outputs) -> Any:
    """Probability of the right label; the mean over labels where there are several."""
    if outputs.task == "generation":
        return (-outputs.losses.double()).exp().numpy()
    probabilities, labels = outputs.probabilities.double(), outputs.labels
    if labels.dim() == 2:
        return torch.where(labels > 0, probabilities, 1 - probabilities).mean(1).numpy()
    if probabilities.dim() == 1 or probabilities.shape[1] == 1:
        positive = probabilities.flatten()
        return torch.where(labels > 0, positive, 1 - positive).numpy()
    return probabilities.gather(1, labels.long()[:, None])[:, 0].numpy()


def _log_odds(outputs: Outputs) -> Any:
    confidence = np.clip(_confidence(outputs), 1e-300, 1.0)
    odds = np.log(confidence) - np.log(np.maximum(1.0 - confidence, 1e-300))
    return np.clip(odds, -_MAX_ODDS + 1e-6, _MAX_ODDS - 1e-6)


def _by_group(values: Tensor, groups: Tensor, n_groups: int) -> list[float | None]:
    groups = groups.long().cpu()
    kept = groups < n_groups
    totals = torch.zeros(n_groups, dtype=torch.float64).index_add_(0, groups[kept], values.double()[kept])
    counts = torch.bincount(groups[kept], minlength=n_groups)
    return [float(t) / int(n) if int(n) else None for t, n in zip(totals, counts, strict=True)]


def _relative_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor], names: Sequence[str]) -> float | None:
    """Length of the change of a layer's weights over the length of the weights; None if the layer is no longer the same."""
    change = total = 0.0
    for name in names:
        if name not in after or after[name].shape != before[name].shape:
            return None
        change += float((after[name].double() - before[name].double()).square().sum())
        total += float(before[name].double().square().sum())
    return math.sqrt(change / total) if total else math.sqrt(change)


def _wilson(share: Any, n: int) -> tuple[Any, Any]:
    """95 % interval of a share of ``n`` samples."""
    z = 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
