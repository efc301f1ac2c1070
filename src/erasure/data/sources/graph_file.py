"""One graph from a file of tensors, such as a graph that somebody has in memory and saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.graphs import MissingFeatures, node_dataset
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.tensor_files import named_tensors
from erasure.data.sources.geometric import check_propagated
from erasure.errors import DataError, nearest
from erasure.training.graphs import NodeColumn
from erasure.types import Json, NonNegativeInt

__all__ = ["GraphFile"]

_KNOWN = ("x", "edge_index", "edge_attr", "edge_weight", "y", "train_mask", "val_mask", "test_mask")


@dataclass(frozen=True, kw_only=True)
class GraphFile(DataSource):
    """One graph whose nodes have classes, in a file of named tensors: ``.safetensors``, ``.npz``, or a dict that ``torch.save`` wrote.

    The names are those of PyTorch Geometric's ``Data``, so that ``torch.save(data.to_dict(), path)`` writes such a file: ``edge_index``
    and ``y``; and, where there are any, ``x``, ``edge_attr``, ``edge_weight`` (above 0, multiplies a GCN's messages), ``train_mask``,
    ``val_mask`` and ``test_mask``. An edge goes one way unless the other is there too.

    Args:
        path: The file, relative to the working directory; ``~`` is expanded.
        missing_features: What stands for the features of nodes that have none: their one-hot degree (64 and more are one), or a 1.
        forgets: As for ``Planetoid``, where there is a ``train_mask``.
        propagate: As for ``Planetoid``.
    """

    is_digested: ClassVar[bool] = True

    path: Annotated[str, MinLen(1)]
    missing_features: MissingFeatures = "degree"
    forgets: Literal["node", "label", "request"] = "node"
    propagate: NonNegativeInt = field(default=0, metadata={"address": "changed"})

    def check(self) -> None:
        """What is propagated depends on the whole graph."""
        check_propagated(self.propagate, self.forgets, "GraphFile")

    def fingerprint(self) -> Json:
        """SHA-256 of the file."""
        return {"sha256": file_digest(self.path)}

    def load(self) -> Dataset:
        """Read the graph and check it."""
        file = existing_file(self.path)
        found = _tensors(file)
        y = found["y"]
        features = found.get("x")
        graph = SimpleNamespace(
            num_nodes=len(y) if features is None else len(features), **{name: found.get(name) for name in _KNOWN}
        )
        if graph.num_nodes != len(y):
            raise DataError(f'"{file}": there are {graph.num_nodes} nodes, and y has the classes of {len(y)}')
        if not graph.num_nodes:
            raise DataError(f'"{file}": the graph has no nodes')
        data = node_dataset(file.stem, graph, self.forgets, self.missing_features, self.propagate)
        weights = found.get("edge_weight")
        return data if weights is None else replace(data, x=self._weighted(data.x, weights, file))

    def _weighted(self, column: Any, weights: Tensor, file: Path) -> NodeColumn:
        n_edges = column.edge_index.shape[1]
        if column.edge_attr is not None or self.propagate:
            other = "propagated features" if self.propagate else "edge_attr"
            raise DataError(
                f'"{file}": edges with a weight have no other features, and plain means leave weights out; leave {other} out'
            )
        if weights.numel() != n_edges or not bool((torch.isfinite(weights) & (weights > 0)).all()):
            raise DataError(
                f'"{file}": edge_weight holds {weights.numel()} numbers; one for each of the {n_edges} edges is expected, above 0'
            )
        weighted: NodeColumn = replace(column, edge_attr=weights.float().reshape(-1, 1), weighted=True)
        return weighted


def _tensors(file: Path) -> Mapping[str, Tensor]:
    """What the file says of the graph."""
    named = named_tensors(file)
    if named is None:
        raise DataError(f'"{file}" has no named tensors; save those of a graph: torch.save(data.to_dict(), path)')
    for name in ("edge_index", "y"):
        if name not in named:
            there = ", ".join(named) or "nothing"
            raise DataError(
                f'"{file}" has no tensor "{name}"; it has {there}; {nearest(name, named) or "a graph has one kind of nodes and of edges"}'
            )
    return {name: torch.as_tensor(named[name]) for name in _KNOWN if name in named}
