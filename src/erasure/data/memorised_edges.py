"""The edges of a graph that models memorise most or least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from erasure.data.contract import Scores, Training
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.data.scenarios.ranked import Ranking
from erasure.data.scenarios.ranking_models import RankingRecipe, balanced
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.functional.diverged import outputs_diverged
from erasure.functional.losses import per_sample_loss
from erasure.training.batches import Column
from erasure.training.forward import logits_of
from erasure.training.graph_requests import NO_SAMPLE, RequestedGraph, edge_pairs
from erasure.training.graphs import NodeBatch, NodeColumn
from erasure.training.randomness import Streams
from erasure.types import OpenFraction, Partition, PositiveInt, Source

__all__ = ["MemorisedEdgesSplitter"]


@dataclass(frozen=True, kw_only=True)
class MemorisedEdgesSplitter(Ranking):
    r"""The edges that models memorise most, least or moderately, and the others.

    An edge is memorised if a model has to be trained with it to explain the nodes at its ends: over models trained on graphs with a random
    part of the edges,

    .. math:: \mathrm{mem}(e) = \mathbb{E}[p_{y_v}(v) \mid e \in G_S] - \mathbb{E}[p_{y_v}(v) \mid e \notin G_S]

    averaged over the ends v that are training nodes, in [-1, 1]. All models are looked at on the whole graph, so that they are given the
    same messages, and they start from the same weights, so that they differ by their edges alone. No label of another node is read. Random
    edges are the easy ones to forget; the most memorised are the hard ones. A single edge is little to a network: on Cora the scores of two
    seeds correlate by 0.27 with 24 models.

    **Cost**: ``n_models`` trainings and passes. A stage of its own trains them before the data are split; the store keeps the scores.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: Edges, as ``GraphEdges`` cuts them, each with an end among the training nodes.
        predictor: How the models are trained; its ``training_set`` has no meaning here.
        n_samples: Edges in the first part, from 0 to the size of ``ref_data``.
        percentage: In its place, the fraction of ``ref_data`` in the first part.
        order: ``most``, ``least`` or ``middle`` of the ranking.
        population: Edges of which each model misses a random part, which include ``ref_data``; by default ``ref_data`` itself. All models
            have all other edges.
        batch_size: Nodes per step, unless the predictor has its own.
        seed: Of the models; by default each splitter has a stream of its own.
        train: The training nodes.
        n_models: Models, at least 2.
        share: The fraction of the models that have an edge.
    """

    source: ClassVar[Source | None] = Source(
        paper="Feldman & Zhang, NeurIPS 2020, arXiv:2008.03703 (memorisation); MGU, WWW 2026, arXiv:2601.14694 (difficulty by memorisation "
        "on graphs)",
        tested="a plain loop over models (tests/unit/data/test_memorised_edges.py)",
        deviations=("What is left out of a model's training are edges, and what is explained are the nodes at their ends.",),
    )

    train: Partition = "train"
    n_models: PositiveInt = 64
    share: OpenFraction = 0.7

    def check(self) -> None:
        """Every edge needs models that have it and models that have not."""
        super().check()
        if self.n_models < 2:
            message = "models that have an edge are compared with others; expected 2 or more, found 1"
            raise InvalidParameters([Diagnostic(message, path="MemorisedEdges.n_models")])

    def scored_with(self) -> tuple[str, ...]:
        """The training nodes."""
        return (self.train,)

    def scores(
        self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator, training: Training
    ) -> Scores:
        """Train a model on each of some parts of the graph, and compare."""
        ids, nodes = ids_of(partitions, self.ref_data), ids_of(partitions, self.train)
        self._size(ids)
        edges = self._population(partitions, ids)
        earlier = data.x if isinstance(data.x, RequestedGraph) else None
        graph = earlier.graph if earlier is not None else data.x
        if not isinstance(graph, NodeColumn) or data.task != "classification":
            raise PartitionError(f'"{data.name}" is not one graph whose nodes have a class each; edges are memorised there')
        if len(edges) and bool((edges < NO_SAMPLE).any()):
            raise PartitionError(f'"{self.ref_data}" is no partition of edges; cut edges with GraphEdges')
        pairs = edge_pairs(graph)[edges - NO_SAMPLE]
        is_trained = torch.zeros(len(graph), dtype=torch.bool).index_fill(0, nodes % len(graph), True)
        counts = is_trained[pairs].sum(1)
        if not bool(counts.all()):
            n = int((counts == 0).sum())
            raise PartitionError(f'{n} edges of "{self.ref_data}" have no end in "{self.train}", whose labels could be explained')
        seed = int(generator.integers(2**62)) if self.seed is None else self.seed
        n_seen = min(max(round(self.share * self.n_models), 1), self.n_models - 1)
        seen = balanced(self.n_models, len(edges), n_seen, Streams(seed).numpy("seen"))
        none = torch.empty(0, dtype=torch.int64)

        def without(missing: Tensor) -> RequestedGraph:
            return RequestedGraph(graph, "edges", none, pairs[missing], earlier=earlier)

        whole = without(edges < 0)
        y = data.y[: len(graph)].repeat(whole.n_graphs)
        recipe = RankingRecipe(
            data=replace(data, x=whole, y=y, z=None, clean_y=None, corrupted=None),
            ids=whole.seen_in(nodes, "after"),
            predictor=self.predictor,
            batch_size=self.batch_size,
            seed=seed,
            training=training,
        )

        def inputs() -> Iterator[tuple[Column, Tensor]]:
            for own in seen:
                yield without(~own), recipe.ids

        looked_at = whole.seen_in(nodes, "before")

        def confidence(model: nn.Module, x: Column) -> Tensor:
            batch = x.gather(looked_at.to(training.device))
            if not isinstance(batch, NodeBatch):
                raise PartitionError(
                    f'the models of "{data.name}" read rows of numbers, which know no edges; leave propagate out'
                )
            logits = logits_of(model(batch)).double().cpu()
            if outputs_diverged(logits):
                raise PartitionError("the models that rank the edges diverged: their outputs run away; lower the learning rate")
            of_nodes = torch.zeros(len(graph), dtype=torch.float64)
            of_nodes[nodes % len(graph)] = (-per_sample_loss(data.task, logits, y[looked_at])).exp()
            return of_nodes[pairs].sum(1) / counts

        said, has = recipe.each(inputs(), confidence), seen.double()
        return ((said * has).sum(0) / has.sum(0) - (said * (1 - has)).sum(0) / (1 - has).sum(0),)
