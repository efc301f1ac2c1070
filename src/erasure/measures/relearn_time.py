"""How quickly forgotten data is learned again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from erasure.errors import Diverged, PartitionError, RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, Outputs, Reference, Value, forward_pass
from erasure.measures.layer_rows import column_of
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.loop import Trainer
from erasure.training.predictor import global_generators
from erasure.training.randomness import isolated
from erasure.training.trial import deep_copy, inputs_kept
from erasure.types import Fraction, Partition, PositiveFloat, PositiveInt, Source

__all__ = ["AIN", "RelearnTime"]


class _Relearned(NamedTuple):
    time: int
    censored: bool


def _adam() -> Optimizer:
    return Optimizer.of("Adam", lr=0.001)


@dataclass(frozen=True, kw_only=True)
class _Relearning(Measure):
    """One recipe by which every model learns the forget set again.

    Args:
        forget: The forgotten samples; the target is reached on them.
        relearn: What the model is trained on meanwhile; by default the forgotten samples.
        target: What must be reached again: ``accuracy``, at least ``(1 - alpha)`` times the original's, or ``loss``, at most
            ``(1 + alpha)`` times the original's.
        alpha: Tolerance, in [0, 1].
        count: ``steps``: the target is looked for after every batch. ``epochs``: after every pass.
        cap: Give up after this many units.
        optimizer: The same for all models, with fresh state.
        batch_size: The same for all models.
        eval_samples: Samples of the forget set on which the target is looked for, drawn at random; None takes all.
    """

    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    forget: Partition = "forget"
    relearn: Partition | None = None
    target: Literal["accuracy", "loss"] = "accuracy"
    alpha: Fraction = 0.05
    count: Literal["steps", "epochs"] = "steps"
    cap: PositiveInt = 200
    optimizer: Optimizer = field(default_factory=_adam)
    batch_size: PositiveInt = 256
    eval_samples: PositiveInt | None = 512

    @property
    def title(self) -> str:
        """The measure's name, with ``in epochs`` and ``by loss`` where they were chosen."""
        chosen = (" in epochs" if self.count == "epochs" else "", " by loss" if self.target == "loss" else "")
        return type(self).__name__ + "".join(chosen)

    @property
    def stream(self) -> str:
        """One for all measures of this recipe: a model learns again once, whoever asks."""
        return self.title.replace(type(self).__name__, "RelearnTime", 1)

    @property
    def _taught(self) -> str:
        return self.forget if self.relearn is None else self.relearn

    def _relearned(self, evaluation: Evaluation, model: Literal["subject", "gold"]) -> _Relearned:
        """Units until a copy of the model reaches the target; the same batches in the same order for every model."""
        if not len(evaluation.ids(self._taught)):
            raise PartitionError(f'the partition "{self._taught}" is empty')
        rows = self._looked_at(evaluation)
        wanted = self._wanted(evaluation.outputs(self.forget, "original"), rows)
        start = evaluation.outputs(self.forget, model)
        if self._reached(start, rows, wanted):
            return _Relearned(0, censored=False)
        chosen = start.ids[rows].to(evaluation.ids(self.forget).device)
        recipe = {each.name: getattr(self, each.name) for each in fields(_Relearning) if each.name not in {"forget", "relearn"}}
        subject = evaluation.model(model).load()
        found = evaluation.shared(
            "relearning",
            subject,
            [self.forget, self._taught],
            lambda: self._trained(evaluation, subject, chosen, wanted, self._wrong(start)[rows])._asdict(),
            wanted=wanted,
            version=RelearnTime.version,
            **recipe,
        )
        return _Relearned(**cast(dict[str, Any], found))

    def _trained(self, evaluation: Evaluation, subject: nn.Module, chosen: Tensor, wanted: float, wrong: Tensor) -> _Relearned:
        model = deep_copy(subject).requires_grad_(True)
        trainer = Trainer(model, self.optimizer, epochs=self.cap)
        # Sorted, so that the order of the partition plays no part.
        ids = evaluation.ids(self._taught).sort().values
        batches = Batches(evaluation.x, evaluation.y, ids, self.batch_size, evaluation.streams.torch("shuffle"))
        each, column = torch.arange(len(chosen)), column_of(evaluation, self.forget)
        n_proving = 2 * (1 if self.count == "epochs" else len(batches))
        n_failing = _n_failing(len(chosen), wanted)

        def loss(batch: Batch) -> Tensor:
            with inputs_kept(model):
                return evaluation.criterion(logits_of(model(batch.x)), batch.y)

        def look(ids: Tensor) -> Outputs:
            return forward_pass(model, x=column, y=evaluation.y, ids=ids, criterion=evaluation.criterion, task=evaluation.task)

        with isolated(evaluation.streams.child("dropout").seed, ids.device), torch.enable_grad():
            chance = [generator.get_state() for generator in global_generators(ids.device).values()]
            for time, unit in enumerate(self._units(batches), start=1):
                try:
                    trainer.train_on(unit, loss)
                except Diverged as error:
                    raise self._diverged(time) from error
                # A few of those that were wrong tell that the target is not reached, for less.
                some = wrong.nonzero()[: 2 * n_failing, 0].to(chosen.device)
                is_worth_it = time not in (n_proving, self.cap) and 0 < 2 * n_failing == len(some) <= len(chosen) // 2
                if is_worth_it and _n_surely_wrong(look(chosen[some])) >= n_failing:
                    continue
                found = look(chosen)
                if found.diverged:
                    raise self._diverged(time)
                if self._reached(found, each, wanted):
                    return _Relearned(time, censored=False)
                wrong = self._wrong(found)
                if time == n_proving and self._is_out_of_reach(found, wanted) and _is_dead(model, subject, found):
                    # What dropout has not shown in two passes it may show in a later one.
                    now = [generator.get_state() for generator in global_generators(ids.device).values()]
                    if all(map(torch.equal, chance, now)):
                        break
        return _Relearned(self.cap, censored=True)

    def _wrong(self, found: Outputs) -> Tensor:
        """Which samples a model gets wrong, where that decides about the target; none otherwise."""
        if self.target != "accuracy" or found.task != "classification":
            return torch.zeros(len(found), dtype=torch.bool)
        return found.predictions != found.labels

    def _is_out_of_reach(self, found: Outputs, wanted: float) -> bool:
        """Whether no model that says the same of every sample meets the target."""
        if self.target != "accuracy" or found.task != "classification":
            return False
        return float(torch.bincount(found.labels).max()) / len(found.labels) < wanted

    def _diverged(self, time: int) -> RequirementNotMet:
        return RequirementNotMet(f"relearning diverged after {time} {self.count}; lower the learning rate")

    def _units(self, batches: Batches) -> Iterable[Iterable[Batch]]:
        if self.count == "epochs":
            return (batches for _ in range(self.cap))
        return ((batch,) for batch in batches.cycled(self.cap))

    def _looked_at(self, evaluation: Evaluation) -> Tensor:
        """Rows of the forget set's outputs on which the target is looked for."""
        outputs = evaluation.outputs(self.forget, "original")
        by_id = torch.argsort(outputs.ids)
        if self.eval_samples is None or len(by_id) <= self.eval_samples:
            return by_id
        drawn = evaluation.streams.numpy("eval").permutation(len(by_id))[: self.eval_samples]
        return by_id[torch.from_numpy(np.sort(drawn))]

    def _wanted(self, original: Outputs, rows: Tensor) -> float:
        number = self._number(original, rows)
        return (1 - self.alpha) * number if self.target == "accuracy" else (1 + self.alpha) * number

    def _reached(self, outputs: Outputs, rows: Tensor, wanted: float) -> bool:
        number = self._number(outputs, rows)
        return number >= wanted if self.target == "accuracy" else number <= wanted

    def _number(self, outputs: Outputs, rows: Tensor) -> float:
        if self.target == "loss":
            return float(outputs.losses[rows].double().mean())
        right = (outputs.predictions == outputs.labels)[rows]
        return float(right.double().mean())


def _n_failing(n: int, wanted: float) -> int:
    """How many wrong ones among ``n`` samples keep the accuracy below the target."""
    return next((wrong for wrong in range(n + 1) if (n - wrong) / n < wanted), n + 1)


def _n_surely_wrong(found: Outputs) -> int:
    """Samples that are wrong whatever the rounding of other batches is; none where a logit is not finite."""
    margins = found.logits.amax(1) - found.logits.gather(1, found.labels.unsqueeze(1)).squeeze(1)
    return 0 if found.diverged else int((margins > 1e-3 * found.logits.abs().amax()).sum())


def _is_dead(model: nn.Module, subject: nn.Module, found: Outputs) -> bool:
    """Whether training cannot wake a model: two passes have left every tensor as it was in ``subject``, bit for bit, but for the bias of
    its logits, and it says the same of every sample.

    So it is where all ReLUs of a layer are off. Gradients have then been zero from the first step, the optimizer keeps nothing that could
    move a weight later, and the bias moves the logits of all samples alike.
    """
    if not bool((found.logits == found.logits[0]).all()):
        return False
    before = subject.state_dict()
    changed = [value for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    return len(changed) <= 1 and all(value.shape == found.logits.shape[1:] for value in changed)


@dataclass(frozen=True, kw_only=True)
class RelearnTime(_Relearning):
    r"""Steps or epochs of training until a model knows the forget set as well as the original did.

    Answers: how near to the surface is what was forgotten? A copy of the model is trained until its accuracy on the forget set is at
    least :math:`(1 - \alpha)` times the original's (or its loss at most :math:`(1 + \alpha)` times). The ideal is gold's time: less
    means that knowledge is left, more that the model resists learning. 0 if the target is met from the start, as by the original.

    ``censored`` is 1 where the cap was reached first: the time is then at least the value. Both are times of one recipe only. All
    models get the same optimizer, batches, order and dropout. The model in training is in training mode, and looked at in eval mode.

    **Cost**: up to ``cap`` steps (or passes over ``relearn``), each followed by a pass over ``eval_samples`` samples, or over a few that
    were wrong before, as long as those tell that the target is not reached; one model copy. A network without dropout
    whose gradients are zero, which says the same of every sample whatever it is taught, is given the cap after two passes.

    Args:
        forget: The forgotten samples; the target is reached on them.
        relearn: What the model is trained on meanwhile; by default the forgotten samples.
        target: What must be reached again: ``accuracy`` or ``loss`` (the predictor's).
        alpha: Tolerance, in [0, 1].
        count: ``steps``: the target is looked for after every batch. ``epochs``: after every pass.
        cap: Give up after this many units.
        optimizer: The same for all models, with fresh state.
        batch_size: The same for all models.
        eval_samples: Samples of the forget set on which the target is looked for, drawn at random; None takes all.
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933; Chundawat et al., IEEE TIFS 2023, arXiv:2201.05629",
        deviations=(
            "The target is looked for on the forget set itself, in eval mode (Chundawat et al. take unseen samples of the class).",
            "Upstream stops by the running accuracy in training mode and gives each model its own, decayed, optimizer.",
        ),
    )
    version: ClassVar[int] = 2
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The time, and whether it is cut off."""
        found = self._relearned(evaluation, "subject")
        return [
            Value(value=found.time, partition=self.forget, unit=self.count, indicates="ignorance"),
            Value(value=float(found.censored), name=f"{self.title} censored", partition=self.forget),
        ]


@dataclass(frozen=True, kw_only=True)
class AIN(_Relearning):
    r"""Anamnesis index: relearn time of a model relative to gold's.

    Answers: is the forget set learned again as if for the first time?

    .. math:: \mathrm{AIN} = \frac{t_u + \epsilon}{t_r + \epsilon}

    with relearn times (see :class:`RelearnTime`) of the model and of gold. At least 0; 1 is ideal, less means that knowledge is left,
    more that the model resists learning. Gold itself has exactly 1. The published ratio has no :math:`\epsilon`; it is undefined where
    gold meets the target from the start, which is common after random forgetting and says that this index is of no use there: look at
    the two times, given as ``AIN time`` and ``AIN time of gold``. ``AIN censored`` is 1 if either reached the cap.

    **Cost**: that of :class:`RelearnTime`, whose times it shares where the recipe is the same, and of gold once for all methods.

    Args:
        forget: The forgotten samples; the target is reached on them.
        relearn: What the models are trained on meanwhile; by default the forgotten samples.
        target: What must be reached again: ``accuracy`` or ``loss`` (the predictor's).
        alpha: Tolerance, in [0, 1]; the paper takes 0.05 and 0.1.
        count: ``steps``: the target is looked for after every batch. ``epochs``: after every pass.
        cap: Give up after this many units.
        optimizer: The same for both models, with fresh state.
        batch_size: The same for both models.
        eval_samples: Samples of the forget set on which the target is looked for, drawn at random; None takes all.
        smoothing: :math:`\epsilon`, in units.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, IEEE TIFS 2023, arXiv:2201.05629",
        deviations=(
            "Both times are smoothed by 0.01, as upstream, so that gold's may be 0.",
            "The target is looked for on the forget set itself (the paper takes unseen samples of the forgotten class).",
        ),
    )
    version: ClassVar[int] = 3
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    references: ClassVar[frozenset[Reference]] = frozenset({"original", "gold"})

    smoothing: PositiveFloat = 0.01

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The index, both times, and whether one is cut off."""
        mine, gold = self._relearned(evaluation, "subject"), self._relearned(evaluation, "gold")
        index = (mine.time + self.smoothing) / (gold.time + self.smoothing)
        censored = float(mine.censored or gold.censored)
        return [
            Value(value=index, partition=self.forget),
            Value(
                value=mine.time,
                name=f"{self.title} time",
                partition=self.forget,
                unit=self.count,
                ideal="gold",
                indicates="ignorance",
            ),
            Value(value=gold.time, name=f"{self.title} time of gold", partition=self.forget, unit=self.count, ideal="gold"),
            Value(value=censored, name=f"{self.title} censored", partition=self.forget, ideal="gold"),
        ]
