"""Comparison of all module outputs of two models, as the reference implementation makes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.distances import DISTANCES
from erasure.measures.contract import Evaluation
from erasure.measures.layer_rows import rows_of_samples
from erasure.training.batches import Batches
from erasure.training.layer_outputs import listening, name_of
from erasure.training.trial import inputs_kept

__all__ = ["mean_activation_distance"]

_BATCH = 256


@torch.no_grad()
def mean_activation_distance(evaluation: Evaluation, partition: str, distance: str, *, block_diagonal: bool = False) -> float:
    """Mean over the samples of a distance between the module outputs of the original and the subject.

    Args:
        evaluation: The model, with the original as reference.
        partition: The samples.
        distance: One of :data:`~erasure.functional.distances.DISTANCES`; each module gives a matrix of one row.
        block_diagonal: Whether the modules' rows are made one matrix.

    Raises:
        RequirementNotMet: If a module's output is not a tensor of one row for each sample, or the models differ in their modules.
    """
    ids = evaluation.ids(partition)
    if not len(ids):
        raise PartitionError(f'the partition "{partition}" is empty')
    original, subject = evaluation.model("original").load(), evaluation.subject.load()
    total = 0.0
    for batch in Batches(evaluation.x, evaluation.y, ids, _BATCH):
        first, second = _rows(original, batch.x, len(batch.y)), _rows(subject, batch.x, len(batch.y))
        if [row.shape for row in first] != [row.shape for row in second]:
            raise RequirementNotMet("the two models differ in their modules, so their outputs cannot be compared one by one")
        total += float(DISTANCES[distance](first, second, block_diagonal=block_diagonal).sum())
    return total / len(ids)


def _rows(model: nn.Module, x: Any, n: int) -> list[Tensor]:
    """Output of each module in the order in which they run, ``(n, 1, d)``."""
    outputs: list[Tensor] = []

    def note(name: str, output: Any) -> None:
        # Of a pair (features, logits) the second counts, as upstream.
        found = output[1] if isinstance(output, tuple) and len(output) > 1 else getattr(output, "logits", output)
        if rows_of_samples(found, x, n) is None:
            raise RequirementNotMet(f'the output of the module "{name_of(name)}" is not one row for each sample')
        outputs.append(found)

    with listening(dict(model.named_modules()), note), inputs_kept(model):
        model(x)
    # Looked at after the whole pass, like upstream: a layer that writes over its input changes what came before.
    return [rows.reshape(n, 1, -1) for output in outputs if (rows := rows_of_samples(output, x, n)) is not None]
