"""What layers compute for the samples of a partition, one row a sample."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from erasure.measures.contract import Evaluation
from erasure.training.batches import Column, PartitionedColumn
from erasure.training.graphs import NodeBatch

__all__ = ["column_of", "rows_of_samples"]


def column_of(evaluation: Evaluation, partition: str) -> Column:
    """The inputs as a pass over a partition sees them, also where only some of its samples are looked at.

    Nodes of a graph see one another: what the model says of a few of them depends on whether the others are there.
    """
    x = evaluation.x
    return x.within(evaluation.ids(partition)) if isinstance(x, PartitionedColumn) else x


def rows_of_samples(output: Any, x: Any, n: int) -> Tensor | None:
    """A layer's output with one row for each sample, or None if it has no such rows.

    Args:
        output: What the layer gave.
        x: The batch that went through the model; of a graph the layers compute all nodes, of which some are the samples.
        n: Number of samples.
    """
    if not isinstance(output, Tensor) or output.ndim == 0:
        return None
    if isinstance(x, NodeBatch) and len(output) == len(x.x):
        return output.index_select(0, x.rows)
    return output if len(output) == n else None
