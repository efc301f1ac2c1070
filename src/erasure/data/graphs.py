"""Graphs as data sets: from the objects of PyTorch Geometric to columns, checked, and from columns to stored tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.dataset import Dataset, rows_left
from erasure.data.storage import ColumnFormat, register_column
from erasure.errors import DataError
from erasure.training.graphs import GraphColumn, NodeColumn, one_hot
from erasure.types import Json, Task

__all__ = [
    "MissingFeatures",
    "class_labels",
    "degree_codes",
    "graph_column",
    "graph_dataset",
    "node_column",
    "node_dataset",
    "nodes_from_tensors",
    "nodes_to_tensors",
]

MissingFeatures: TypeAlias = Literal["degree", "constant"]
"""What stands for the features of nodes that have none: their one-hot degree, or a 1."""

_MAX_DEGREES = 64
_SPLIT = ("train", "validation", "test", "unlabelled")


def graph_dataset(
    name: str,
    graphs: Sequence[Any],
    labels: Tensor,
    *,
    task: Task = "classification",
    n_classes: int | None = None,
    categories: tuple[int, ...] = (),
    edge_categories: tuple[int, ...] = (),
    missing_features: MissingFeatures = "degree",
    n_dropped: int = 0,
    dropped_rows: Sequence[int] = (),
    rows: Tensor | None = None,
    class_names: tuple[str, ...] = (),
) -> Dataset:
    """A checked data set for graph classification; graphs without nodes are dropped, with a warning that counts them.

    Args:
        name: How results call it.
        graphs: Objects with ``x``, ``edge_index``, ``edge_attr`` and ``num_nodes``, such as ``torch_geometric.data.Data``.
        labels: As for :class:`~erasure.data.dataset.Dataset`, one for each of ``graphs``.
        task: How labels are read.
        n_classes: By default one more than the largest label, or the width of multi-label ones.
        categories: As for :class:`~erasure.training.graphs.GraphColumn`.
        edge_categories: The same for edges.
        missing_features: What to take where nodes have no features.
        n_dropped: Graphs without nodes that the reader has dropped already.
        dropped_rows: Rows that these are from, where they are known.
        rows: Row of the source that each of ``graphs`` is from, counted from 0; by default their positions.
        class_names: What the source calls the classes, where that is not their number.

    Raises:
        DataError: If the graphs cannot be put into columns or learned from.
    """
    kept = [i for i, graph in enumerate(graphs) if graph.num_nodes]
    n_dropped += len(graphs) - len(kept)
    if n_dropped:
        shown = ", ".join(map(str, dropped_rows[:5])) + (", …" if len(dropped_rows) > 5 else "")
        where = f" (row{'s' if len(dropped_rows) > 1 else ''} {shown})" if dropped_rows else ""
        warnings.warn(f'"{name}": {n_dropped} graphs without nodes are dropped{where}, {len(kept)} are left', stacklevel=3)
    if not kept:
        raise DataError(f'"{name}" has no graph with nodes')
    column = graph_column(
        name, [graphs[i] for i in kept], categories=categories, edge_categories=edge_categories, missing_features=missing_features
    )
    labels = labels[torch.tensor(kept)]
    rows = torch.tensor(kept) if rows is None else rows[torch.tensor(kept)]
    if n_classes is None:
        n_classes = labels.shape[1] if task == "multilabel" else len(class_names) or int(labels.max()) + 1
    return checked(
        Dataset(
            name=name,
            x=column,
            y=labels,
            n_classes=n_classes,
            class_names=class_names,
            task=task,
            modality="graph",
            x_shape=column.sample_shape,
            rows=rows_left(rows),
        )
    )


def graph_column(
    name: str,
    graphs: Sequence[Any],
    *,
    categories: tuple[int, ...] = (),
    edge_categories: tuple[int, ...] = (),
    missing_features: MissingFeatures = "degree",
) -> GraphColumn:
    """Graphs one after the other in flat tensors; arguments as for :func:`graph_dataset`."""
    for i, graph in enumerate(graphs):
        _check_graph(f'"{name}": graph {i}', graph)
    node_ptr = _pointers([graph.num_nodes for graph in graphs])
    edge_ptr = _pointers([graph.edge_index.shape[1] for graph in graphs])
    edge_index = torch.cat([graph.edge_index for graph in graphs], dim=1).to(torch.int64)
    x = _joined(name, [graph.x for graph in graphs], "node features")
    if x is None or x.shape[1] == 0:
        x, categories = _structural(edge_index, node_ptr, edge_ptr, missing_features)
    edge_attr = _joined(name, [graph.edge_attr for graph in graphs], "edge features")
    if edge_attr is not None and edge_attr.shape[1] == 0:
        edge_attr = None
    return GraphColumn(
        x=_features(f'"{name}": the node features', x, categories),
        node_ptr=node_ptr,
        edge_index=edge_index,
        edge_ptr=edge_ptr,
        edge_attr=None if edge_attr is None else _features(f'"{name}": the edge features', edge_attr, edge_categories),
        categories=categories,
        edge_categories=edge_categories if edge_attr is not None else (),
    )


def node_column(
    name: str, graph: Any, background: Tensor | None, missing_features: MissingFeatures = "degree", propagate: int = 0
) -> NodeColumn:
    """One graph whose nodes are the samples.

    Args:
        name: How results call the data set.
        graph: As for :func:`graph_dataset`.
        background: As for :class:`~erasure.training.graphs.NodeColumn`.
        missing_features: What to take where nodes have no features.
        propagate: As for :class:`~erasure.training.graphs.NodeColumn`.

    Raises:
        DataError: If the graph is not sound.
    """
    _check_graph(f'"{name}"', graph)
    edge_index, x, edge_attr = graph.edge_index.to(torch.int64), graph.x, graph.edge_attr
    has_features = x is not None and x.shape[1] > 0
    if not has_features:
        codes, categories = _structural(
            edge_index, torch.tensor([0, graph.num_nodes]), torch.tensor([0, edge_index.shape[1]]), missing_features
        )
        x = one_hot(codes, categories)
    edge_attr = None if edge_attr is None else _features(f'"{name}": the edge features', _as_matrix(edge_attr), ())
    counts_degrees = not has_features and missing_features == "degree"
    features = _features(f'"{name}": the node features', _as_matrix(x), ())
    return NodeColumn(features, edge_index, edge_attr, background, counts_degrees, propagate)


def node_dataset(
    name: str, graph: Any, forgets: str, missing_features: MissingFeatures = "degree", propagate: int = 0
) -> Dataset:
    """A data set whose samples are the nodes of one graph; its own split, if it has one, is in the groups."""
    masks = [_mask(name, graph, part) for part in ("train", "val", "test")]
    z = torch.full((graph.num_nodes,), len(masks), dtype=torch.int64)
    for code, mask in enumerate(masks):
        if mask is not None:
            z[mask] = code
    background = None
    if forgets == "node":
        background = torch.zeros(graph.num_nodes, dtype=torch.bool) if masks[0] is None else ~masks[0]
    column, y = node_column(name, graph, background, missing_features, propagate), class_labels(name, graph.y)
    return checked(
        Dataset(
            name=name,
            x=column,
            y=y,
            z=None if masks[0] is None else z,
            z_names=() if masks[0] is None else _SPLIT,
            n_classes=int(y.max()) + 1,
            modality="graph",
            x_shape=column.sample_shape,
        )
    )


def _mask(name: str, graph: Any, part: str) -> Tensor | None:
    """Which nodes are in a part of the graph's own split, ``(n,)`` bool; of several splits the first."""
    given = getattr(graph, f"{part}_mask", None)
    if given is None:
        return None
    mask, n = torch.as_tensor(given), int(graph.num_nodes)
    mask = mask if mask.ndim == 1 else mask[:, 0]
    if len(mask) == n and (mask.dtype == torch.bool or bool(((mask == 0) | (mask == 1)).all())):
        return mask.bool()
    if mask.dtype == torch.bool or mask.is_floating_point():
        raise DataError(f'"{name}": {part}_mask has {len(mask)} values of {mask.dtype}, and there are {n} nodes')
    if len(mask) and not 0 <= int(mask.min()) <= int(mask.max()) < n:
        unknown = int(mask.min()) if int(mask.min()) < 0 else int(mask.max())
        raise DataError(f'"{name}": {part}_mask names node {unknown}, but the nodes are 0 to {n - 1}')
    return torch.zeros(n, dtype=torch.bool).index_fill(0, mask.long(), True)


def degree_codes(edge_index: Tensor, n_nodes: int, most: int = _MAX_DEGREES) -> Tensor:
    """Number of edges that arrive at each node, at most ``most``; shape ``(n_nodes,)``, int64."""
    return torch.bincount(edge_index[1], minlength=n_nodes).clamp_(max=most)


def class_labels(name: str, values: Tensor) -> Tensor:
    """Labels as int64 of shape ``(N,)`` from ``(N,)`` or ``(N, 1)``, whole numbers of any type.

    Raises:
        DataError: If they are vectors, not whole or negative; names the first sample.
    """
    if values.ndim > 1 and values.numel() != len(values):
        raise DataError(f'"{name}": a label of each sample is expected, found {values.shape[1]}; choose one')
    values = values.reshape(-1)
    whole = torch.isfinite(values) & (values == values.floor()) if values.is_floating_point() else torch.ones_like(values) == 1
    bad = ~whole | (values < 0)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise DataError(f'"{name}": the label of sample {first} is {values[first].item()}, expected a class: 0, 1, …')
    return values.to(torch.int64)


def _check_graph(what: str, graph: Any) -> None:
    if hasattr(graph, "edge_types"):
        raise DataError(f"{what} has several kinds of nodes or edges, and one kind of each can be learned from")
    if graph.edge_index is None:
        raise DataError(f"{what} has no edge_index")
    edges = graph.edge_index
    if edges.ndim != 2 or len(edges) != 2:
        raise DataError(f"{what}: edge_index has shape {tuple(edges.shape)}, expected (2, number of edges)")
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < graph.num_nodes:
        unknown = int(edges.min()) if int(edges.min()) < 0 else int(edges.max())
        raise DataError(f"{what}: an edge names node {unknown}, but the nodes are 0 to {graph.num_nodes - 1}")
    if graph.edge_attr is not None and len(graph.edge_attr) != edges.shape[1]:
        raise DataError(f"{what} has {edges.shape[1]} edges, but features of {len(graph.edge_attr)}")
    if graph.x is not None and len(graph.x) != graph.num_nodes:
        raise DataError(f"{what} has {graph.num_nodes} nodes, but features of {len(graph.x)}")


def _pointers(counts: Sequence[int]) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.tensor(counts, dtype=torch.int64).cumsum(0)])


def _as_matrix(values: Tensor) -> Tensor:
    values = values.to_dense() if values.layout != torch.strided else values
    return values[:, None] if values.ndim == 1 else values.flatten(1)


def _joined(name: str, parts: Sequence[Tensor | None], what: str) -> Tensor | None:
    given = [_as_matrix(part) for part in parts if part is not None]
    if not given:
        return None
    if len(given) < len(parts):
        raise DataError(f'"{name}": {len(parts) - len(given)} of {len(parts)} graphs have no {what}, the others have')
    widths = sorted({part.shape[1] for part in given})
    if len(widths) > 1:
        raise DataError(f'"{name}": graphs have {what} of different widths, {widths[0]} and {widths[-1]}')
    return torch.cat(given)


def _structural(
    edge_index: Tensor, node_ptr: Tensor, edge_ptr: Tensor, missing: MissingFeatures
) -> tuple[Tensor, tuple[int, ...]]:
    """Features of nodes that have none, as codes."""
    n_nodes = int(node_ptr[-1])
    if missing == "constant":
        return torch.zeros(n_nodes, 1, dtype=torch.int16), (1,)
    degrees = degree_codes(edge_index + torch.repeat_interleave(node_ptr[:-1], edge_ptr.diff()), n_nodes)
    return degrees[:, None].to(torch.int16), (int(degrees.max()) + 1,)


def _features(what: str, values: Tensor, categories: tuple[int, ...]) -> Tensor:
    if not categories:
        values = values.to(torch.float32).contiguous()
        bad = ~torch.isfinite(values).all(1)
        if bool(bad.any()):
            raise DataError(f"{what} are NaN or infinite in {int(bad.sum())} rows, first in row {int(bad.nonzero()[0])}")
        return values
    if values.shape[1] != len(categories):
        raise DataError(f"{what} have {values.shape[1]} columns, expected {len(categories)} codes")
    outside = (values < 0) | (values >= torch.tensor(categories))
    if bool(outside.any()):
        row, column = outside.nonzero()[0].tolist()
        found = values[row, column].item()
        raise DataError(f"{what}: code {found} in row {row}, column {column}, expected 0 to {categories[column] - 1}")
    return values.to(torch.int16).contiguous()


def _graphs_to_tensors(column: GraphColumn) -> tuple[dict[str, Tensor], dict[str, Json]]:
    parts = {name: getattr(column, name) for name in ("x", "node_ptr", "edge_index", "edge_ptr", "edge_attr")}
    facts = {"categories": list(column.categories), "edge_categories": list(column.edge_categories)}
    return {name: part for name, part in parts.items() if part is not None}, facts


def _graphs_from_tensors(tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> GraphColumn:
    return GraphColumn(
        x=tensors["x"],
        node_ptr=tensors["node_ptr"],
        edge_index=tensors["edge_index"],
        edge_ptr=tensors["edge_ptr"],
        edge_attr=tensors.get("edge_attr"),
        categories=tuple(facts["categories"]),
        edge_categories=tuple(facts["edge_categories"]),
    )


def nodes_to_tensors(column: NodeColumn) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """One graph as it is stored: tensors by name, and JSON facts."""
    parts = {name: getattr(column, name) for name in ("x", "edge_index", "edge_attr", "background", "planted")}
    return {name: part for name, part in parts.items() if part is not None}, {
        "counts_degrees": column.counts_degrees,
        **({"propagate": column.propagate} if column.propagate else {}),
        **({"names": list(column.names)} if column.names else {}),
        **({"weighted": True} if column.weighted else {}),
    }


def nodes_from_tensors(tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> NodeColumn:
    """One graph from what :func:`nodes_to_tensors` gives."""
    counts_degrees = bool(facts.get("counts_degrees", False))
    return NodeColumn(
        tensors["x"],
        tensors["edge_index"],
        tensors.get("edge_attr"),
        tensors.get("background"),
        counts_degrees,
        int(facts.get("propagate", 0)),
        tensors.get("planted"),
        tuple(facts.get("names", ())),
        weighted=bool(facts.get("weighted", False)),
    )


register_column("graph", ColumnFormat(GraphColumn, _graphs_to_tensors, _graphs_from_tensors))
register_column("node", ColumnFormat(NodeColumn, nodes_to_tensors, nodes_from_tensors))
