"""How forgotten answers come back while a model is trained on some of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import Diverged, PartitionError, RequirementNotMet
from erasure.measures.answer_tables import Knowledge, knowledge, table_of
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.loop import Trainer
from erasure.training.randomness import isolated
from erasure.training.trial import inputs_kept
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["RelearningCurve"]


@dataclass(frozen=True, kw_only=True)
class RelearningCurve(Measure):
    """How well forgotten answers are known while the model is trained on some of them.

    Answers: was it forgotten, or hidden near the surface? A copy is trained and looked at before the first step and after every ``every``
    steps. ``RelearningCurve`` is the mean over these looks, ``RelearningCurve end`` the last one; in [0, 1]. Every model learns what it is
    shown: only the distance to gold, put through the same training, tells anything.

    With ``n_taught`` that many forgotten samples are shown, drawn at random, and the others are looked at: what comes back was never shown.
    Without it, all are shown and looked at. ``relearn`` shows other data altogether, such as retained samples.

    **Cost**: ``n_steps`` steps of training and a pass over the forget set for each look; one model copy.

    Args:
        forget: The forgotten samples, which are looked at.
        relearn: What is shown, if not forgotten samples.
        n_taught: Forgotten samples that are shown.
        n_steps: Steps of training.
        every: Steps between two looks.
        known: What is read from the answers.
        optimizer: The same for all models, with fresh state.
        batch_size: The same for all models.
    """

    source: ClassVar[Source | None] = Source(
        paper="Lynch et al., 2024, arXiv:2402.16835; Hu et al., ICLR 2025, arXiv:2406.13356",
        tested="steps of plain training (tests/unit/language/test_attacks_on_answers.py)",
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = True
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    relearn: Partition | None = None
    n_taught: PositiveInt | None = None
    n_steps: PositiveInt = 10
    every: PositiveInt = 2
    known: Knowledge = "memorisation"
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=1e-3))
    batch_size: PositiveInt = 10

    def check(self) -> None:
        """What is shown comes from one place."""
        if self.relearn is not None and self.n_taught is not None:
            raise RequirementNotMet("n_taught counts forgotten samples; leave it out where relearn names other data")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Mean and end of the curve."""
        require_defined(self, evaluation)
        shown, looked_at = self._split(evaluation)
        evaluation.outputs(self.forget)
        network = copy.deepcopy(evaluation.subject.load()).requires_grad_(True)
        trainer = Trainer(network, self.optimizer, epochs=1)
        batches = Batches(evaluation.x, evaluation.y, shown, self.batch_size, evaluation.streams.torch("shuffle"))
        x: Tensor = evaluation.x.gather(looked_at)
        steps, curve = [0], [self._look(network, x)]

        def loss(batch: Batch) -> Tensor:
            with inputs_kept(network):
                return evaluation.criterion.of(network, batch.x, batch.y)

        with isolated(evaluation.streams.child("dropout").seed, shown.device):
            for step, batch in enumerate(batches.cycled(self.n_steps), start=1):
                try:
                    with torch.enable_grad():
                        trainer.train_on((batch,), loss)
                except Diverged as error:
                    raise RequirementNotMet(f"relearning diverged after {step} steps; lower the learning rate") from error
                if step % self.every == 0 or step == self.n_steps:
                    steps.append(step)
                    curve.append(self._look(network, x))
        evidence = {"kind": "relearning", "steps": steps, "known": curve}
        return [
            Value(value=sum(curve) / len(curve), partition=self.forget, curve=evidence),
            Value(value=curve[-1], name=f"{self.title} end", partition=self.forget),
        ]

    def _split(self, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        """Ids of what is shown and of what is looked at."""
        forget = evaluation.ids(self.forget).sort().values
        shown = forget if self.relearn is None else evaluation.ids(self.relearn).sort().values
        for name, ids in ((self.forget, forget), (self.relearn, shown)):
            if not len(ids):
                raise PartitionError(f'the partition "{name}" is empty')
        if self.n_taught is None:
            return shown, forget
        if self.n_taught >= len(forget):
            raise RequirementNotMet(
                f"n_taught is {self.n_taught} and there are {len(forget)} forgotten samples: none is left to look at"
            )
        order = evaluation.streams.numpy("taught").permutation(len(forget))
        return forget[order[: self.n_taught]].sort().values, forget[order[self.n_taught :]].sort().values

    def _look(self, network: nn.Module, x: Tensor) -> float:
        network.eval()
        return float(knowledge(table_of(network, x), x)[self.known].mean())
