"""A stream of requests to forget something of one graph, in one splitter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, cast, get_args

import numpy as np
from annotated_types import MinLen
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.graph_splitters import EdgeStratum, GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter, Stratum
from erasure.data.partitions import DISCARDED
from erasure.errors import Diagnostic, InvalidParameters
from erasure.training.graph_requests import RequestKind
from erasure.types import OpenFraction, Partition, PositiveInt

__all__ = ["GraphRequestsSplitter"]


@dataclass(frozen=True, kw_only=True)
class GraphRequestsSplitter(Splitter):
    """Requests to forget nodes, edges or features of one graph, one after the other, drawn from what the ones before have left.

    With three requests the partitions are ``forget 1``, ``retain 1``, ``gone 1``, …, ``gone 3``; those of each are what ``GraphNodes`` or
    ``GraphEdges`` and a ``GraphRequest`` make, of which this is the short form. ``gone`` are the nodes or edges that are forgotten, or the
    nodes that lose their features. ``Sequential`` applies a method to one request after the other.

    Args:
        parts_names: Name of the forget sets and of the retain sets, to which the number of the request is added; ``-`` throws them away.
        ref_data: The training set.
        requests: What is forgotten in each: ``nodes``, ``edges`` or ``features``.
        n: How many nodes or edges in each request.
        percentage: In its place, the fraction of the nodes that are left to retain, or of the edges that have an end among them.
        stratum: Which of them, as for ``GraphNodes`` and ``GraphEdges``.
        both_ends: Only edges with both ends in the training set.
        deployed: Partitions that are seen in the graph after the last request from now on.
    """

    parts_names: tuple[str, str] = ("forget", "retain")
    ref_data: Partition = "train"
    requests: Annotated[tuple[RequestKind, ...], MinLen(1)] = ("nodes", "nodes", "nodes")
    n: PositiveInt | None = None
    percentage: OpenFraction | None = None
    stratum: EdgeStratum = "random"
    both_ends: bool = False
    deployed: tuple[Partition, ...] = ("test",)

    def check(self) -> None:
        """A size, and a stratum that nodes have where nodes are chosen."""
        if (self.n is None) == (self.percentage is None):
            raise InvalidParameters([Diagnostic("give either n or percentage", path="GraphRequests.n")])
        if self.stratum == "all" or (self.stratum not in get_args(Stratum) and set(self.requests) != {"edges"}):
            message = f'the stratum "{self.stratum}" is not one of {"edges" if self.stratum == "all" else "nodes"} that are drawn in part'
            raise InvalidParameters([Diagnostic(message, path="GraphRequests.stratum")])

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget set, retain set and what is gone of each request, and the deployed partitions."""
        names = [name for number in range(1, len(self.requests) + 1) for name in self._names(number)]
        return (*names, *self.deployed)

    def redefines(self) -> tuple[str, ...]:
        """The deployed partitions: their samples are then others, on purpose."""
        return self.deployed

    def settles(self) -> tuple[str, ...]:
        """What is forgotten must not be another partition later."""
        return tuple(self._names(number)[2] for number in range(1, len(self.requests) + 1))

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Choose and forget, again and again."""
        known, parts = dict(partitions), list[Tensor]()
        for (_, _, gone), chooser, request in self._steps():
            known[gone], _ = chooser.split(data, known, generator)
            found = request.split(data, known, generator)
            known |= dict(zip(request.parts, found, strict=True))
            data = request.prepared(data, known)
            parts += [*found[:2], known[gone]]
        return (*parts, *(known[name] for name in self.deployed))

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set with a sample for each node in each graph."""
        for _, _, request in self._steps():
            data = request.prepared(data, partitions)
        return data

    def _names(self, number: int) -> tuple[str, str, str]:
        forget, retain = (name if name == DISCARDED else f"{name} {number}" for name in self.parts_names)
        return forget, retain, f"gone {number}"

    def _steps(self) -> Iterator[tuple[tuple[str, str, str], GraphNodesSplitter | GraphEdgesSplitter, GraphRequestSplitter]]:
        """Names of the parts of each request, who chooses, and who forgets."""
        before = self.ref_data
        for number, kind in enumerate(self.requests, start=1):
            gone, left = self._names(number)[2], f"retain {number} of the stream"
            request = GraphRequestSplitter(
                parts_names=(f"forget {number} of the stream", left),
                ref_data=before,
                nodes=gone if kind == "nodes" else None,
                edges=gone if kind == "edges" else None,
                features_of=gone if kind == "features" else None,
                deployed=self.deployed,
            )
            yield self._names(number), self._chooser(kind, gone, before), request
            before = left

    def _chooser(self, kind: RequestKind, gone: str, before: str) -> GraphNodesSplitter | GraphEdgesSplitter:
        parts = (gone, DISCARDED)
        if kind == "edges":
            return GraphEdgesSplitter(
                parts_names=parts,
                ref_data=before,
                stratum=self.stratum,
                n=self.n,
                percentage=self.percentage,
                both_ends=self.both_ends,
            )
        stratum = cast("Stratum", self.stratum)  # as check() has it
        return GraphNodesSplitter(parts_names=parts, ref_data=before, stratum=stratum, n=self.n, percentage=self.percentage)
