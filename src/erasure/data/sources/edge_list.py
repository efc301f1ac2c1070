"""One graph from files of one's own: a table of nodes and a list of edges."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames
from erasure.data.graphs import node_column
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.table_columns import MARKS_OF_MISSING, RawTable, TextFormat, read_tables
from erasure.data.selection import shown
from erasure.data.sources.table import TableFile
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.training.batches import TensorColumn
from erasure.training.mapped import MappedColumn
from erasure.types import Json, NonNegativeInt

__all__ = ["EdgeList"]


@dataclass(frozen=True, kw_only=True)
class EdgeList(DataSource):
    """One graph whose nodes are the rows of a table and whose edges are the lines of another file.

    Where ``nodes`` has an ``index_column``, its values are the names of the nodes, whatever they are, and edges and requests use them;
    otherwise nodes are called by their rows, from 0. A split of the nodes is a column of the table, named in its ``z``; rows with the
    value ``train`` are the training nodes.

    Args:
        nodes: A ``TableFile``: features, label and perhaps a split of each node.
        edges: One file or several of edges, CSV, TSV or Parquet, compressed or not.
        ends: Columns of the node that an edge comes from and of the node that it goes to; by default the first two.
        directed: Whether an edge runs in the direction in which it is written only; by default in both, however often it is written.
        separator: Between two values of the edges; by default a tab for ``.tsv``, else a comma.
        header: Whether the first line of a text file of edges has the names of its columns.
        forgets: As for ``Planetoid``.
        propagate: As for ``Planetoid``.
        weight: Column of the weight of an edge, a number above 0, that a GCN's messages are multiplied by; ``gin`` and ``gat`` can read it
            as their one edge feature. By default edges count alike.
    """

    is_digested: ClassVar[bool] = True

    nodes: DataSource
    edges: NonEmptyNames
    ends: tuple[str, str] | None = None
    directed: bool = False
    separator: str | None = None
    header: bool = True
    forgets: Literal["node", "label", "request"] = "request"
    propagate: NonNegativeInt = field(default=0, metadata={"address": "changed"})
    weight: str | None = field(default=None, metadata={"address": "changed"})

    def check(self) -> None:
        """Nodes come from a table, and what is propagated depends on the whole graph."""
        if not isinstance(self.nodes, TableFile):
            raise InvalidParameters([Diagnostic("the nodes are the rows of a table: give a TableFile", path="EdgeList.nodes")])
        if not self.header and self.ends is not None:
            raise InvalidParameters([Diagnostic("files without a header have no names: leave ends out", path="EdgeList.ends")])
        if self.propagate and self.forgets != "request":
            message = (
                'features are propagated over the whole graph, of which a GraphRequest says what goes: give forgets = "request"'
            )
            raise InvalidParameters([Diagnostic(message, path="EdgeList.propagate")])
        if self.propagate and self.weight is not None:
            message = "features are propagated by plain means, which leave weights out; give one of the two"
            raise InvalidParameters([Diagnostic(message, path="EdgeList.weight")])
        if not self.header and self.weight is not None:
            raise InvalidParameters([Diagnostic("files without a header have no column of weights", path="EdgeList.weight")])

    def fingerprint(self) -> Json:
        """SHA-256 of each file."""
        return {"nodes": self.nodes.fingerprint(), "edges": [file_digest(path) for path in self.edges]}

    def load(self) -> Dataset:
        """Read both files."""
        table = self.nodes.load()
        assert isinstance(self.nodes, TableFile)  # noqa: S101 - `check` holds it
        if not isinstance(table.x, TensorColumn) or isinstance(table.x, MappedColumn):
            raise DataError(
                f'the nodes of "{table.name}" do not fit into memory_cap_gib, and a graph is read as a whole; raise it'
            )
        names = _names(self.nodes)
        if table.rows is not None and names:
            names = tuple(names[row] for row in table.rows.tolist())
        ends, weights = self._ends(table, names)
        background = None
        if self.forgets == "node":
            is_train = torch.zeros(len(table), dtype=torch.bool)
            if table.z is not None and table.z.ndim == 1 and "train" in table.z_names:
                is_train = table.z == table.z_names.index("train")
            background = ~is_train if bool(is_train.any()) else is_train
        graph = _Graph(table.x.values, ends, weights)
        column = node_column(table.name, graph, background, propagate=self.propagate)
        column = replace(column, names=names, weighted=weights is not None)
        return checked(replace(table, x=column, modality="graph", x_shape=column.sample_shape, feature_names=()))

    def _ends(self, table: Dataset, names: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
        """From and to which node each edge goes, ``(2, m)``, and its weight, ``(m, 1)``: different edges, both ways unless ``directed``."""
        files = [existing_file(path) for path in self.edges]
        columns = () if self.header else ("source", "target")
        text = TextFormat(self.separator, columns, MARKS_OF_MISSING, True, "utf-8")
        read = read_tables(files, [0] * len(files), text)
        others = [column for column in read.columns if column != self.weight]
        if len(others) < 2:
            raise DataError(
                f"{read.files[0][0]} has the column {', '.join(read.columns)}, and an edge has two ends; set separator"
            )
        called = self.ends or tuple(others)[:2]
        ends = torch.stack([_found(read, column, names, table) for column in called])
        n = len(table)
        low, high = (ends[0], ends[1]) if self.directed else (ends.min(0).values, ends.max(0).values)
        keys = low * n + high
        _, first, which = np.unique(keys.numpy(), return_index=True, return_inverse=True)
        weights = None if self.weight is None else _weights(read, self.weight, torch.from_numpy(first[which]))
        n_double = len(keys) - len(first)
        if n_double and self.directed:
            warnings.warn(
                f'"{table.name}": {n_double} of {len(keys)} edges are there more than once and are taken once', stacklevel=2
            )
        once = torch.from_numpy(np.sort(first))
        ends, weights = ends[:, once], None if weights is None else weights[once]
        if self.directed:
            return ends, weights
        back = ends[0] != ends[1]
        weights = None if weights is None else torch.cat([weights, weights[back]])
        return torch.cat([ends, ends[:, back].flip(0)], dim=1), weights


@dataclass(frozen=True, eq=False)
class _Graph:
    """What PyTorch Geometric calls a graph's parts."""

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None

    @property
    def num_nodes(self) -> int:
        return len(self.x)


def _names(nodes: TableFile) -> tuple[str, ...]:
    """The names of the nodes as the table has them, one for each of its rows; none without an ``index_column``."""
    if nodes.index_column is None:
        return ()
    table = nodes.table()
    column = tuple(table.columns)[nodes.index_column] if isinstance(nodes.index_column, int) else nodes.index_column
    gaps = table.missing(column)
    if gaps.any():
        raise DataError(f'{table.row(int(gaps.argmax()))}: the node has no name in "{column}"')
    names = tuple(str(name) for name in table.column(column).to_pylist())
    if len(set(names)) < len(names):
        seen: set[str] = set()
        double = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise DataError(f'{len(double)} names of nodes in "{column}" are there more than once: {shown(double)}')
    return names


def _weights(read: RawTable, column: str, first: Tensor) -> Tensor:
    """Weight of each line, ``(lines, 1)``; ``first`` is the line that says the same edge first, and must agree."""
    gaps = read.missing(column)
    if gaps.any():
        raise DataError(f'{read.row(int(gaps.argmax()))}: the edge has no weight in "{column}"')
    said = read.column(column).to_pylist()
    found = np.full(len(said), np.nan)
    for line, value in enumerate(said):
        with suppress(TypeError, ValueError):
            found[line] = float(value)
    wrong = ~(np.isfinite(found) & (found > 0))
    if wrong.any():
        line = int(wrong.argmax())
        raise DataError(f'{read.row(line)}: "{said[line]}" in "{column}" is no weight; weights are numbers above 0')
    weights = torch.from_numpy(found)
    other = weights != weights[first]
    if bool(other.any()):
        line = int(other.long().argmax())
        before = read.row(int(first[line]))
        raise DataError(f"{read.row(line)}: the edge has the weight {said[line]}, and {said[int(first[line])]} in {before}")
    return weights.float()[:, None]


def _found(read: RawTable, column: str, names: Sequence[str], table: Dataset) -> Tensor:
    """Which node each end is."""
    gaps = read.missing(column)
    if gaps.any():
        raise DataError(f'{read.row(int(gaps.argmax()))}: the edge has no end in "{column}"')
    ends = read.column(column).to_pylist()
    number_of = {name: number for number, name in enumerate(names or map(str, range(len(table))))}
    found = [number_of.get(str(end), -1) for end in ends]
    unknown = [number for number, node in enumerate(found) if node < 0]
    if unknown:
        there = (
            "the names in the index_column of nodes" if names else f"the rows 0 to {len(table) - 1} (nodes has no index_column)"
        )
        raise DataError(
            f'{read.row(unknown[0])}: "{ends[unknown[0]]}" in "{column}" is no node; {len(unknown)} of {len(ends)} edges name such; nodes '
            f"are {there}"
        )
    return torch.tensor(found, dtype=torch.int64)
