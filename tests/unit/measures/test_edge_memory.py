"""Memory of edges: what is planted in the predictions for their ends is found, and what all edges share is not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graph_toys import N_NODES, blocks, evaluation_of, outputs_of, requested

from erasure.data.graph_splitters import GraphEdgesSplitter, SeenInSplitter
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.edge_memory import EdgeMemory, agreement_odds
from erasure.measures.requested_models import FIRST_FITTED, Original, Retrained

N_MODELS = 6


def evaluation(share, *, louder=1.0, seed=100):
    """A model that has kept a share of what originals know of a tenth of the edges: that both ends are alike."""
    after = SeenInSplitter(parts_names=("nodes_after", "-"), ref_data="all", graph="after")
    kept = GraphEdgesSplitter(parts_names=("kept_edges", "-"), ref_data="all", n=40)
    data, partitions = requested("edges", blocks(), after, kept)
    partitions = partitions | {"forgotten_edges": partitions["gone"]}
    ends = data.x.ends_of(partitions["gone"])

    def logits(share, seed):
        drawn = torch.randn(N_NODES, 3, generator=torch.Generator().manual_seed(seed)) * 0.3
        drawn = drawn + 2 * torch.eye(3)[data.y[:N_NODES]]
        for number, pair in enumerate(ends):
            drawn[pair] += 3 * share * torch.eye(3)[number % 3]
        return louder * drawn if seed == 100 else drawn

    def outputs(share, seed):
        return outputs_of(data, partitions["nodes_after"], logits(share, seed))

    def said(request, partition):
        assert partition == "nodes_after"
        assert request.number >= FIRST_FITTED
        return outputs(float(isinstance(request, Original)), request.number + 50 * isinstance(request, Retrained))

    return evaluation_of(data, partitions, lambda name: outputs(share, seed), provider=SimpleNamespace(outputs=said))


def value(given):
    (found,) = EdgeMemory(n_models=N_MODELS).measure(given)
    assert found.low < found.value < found.high
    return found.value


def test_what_is_left_of_planted_memory_is_found():
    gold, half, original = (sum(value(evaluation(share, seed=100 + k)) for k in range(3)) / 3 for share in (0.0, 0.5, 1.0))
    assert gold == pytest.approx(0, abs=0.15)
    assert original == pytest.approx(1, abs=0.15)
    assert gold + 0.25 < half < original - 0.1  # the log-odds are not linear in what is planted


def test_predictions_that_grew_surer_everywhere_are_no_memory():
    assert abs(value(evaluation(0.0, louder=1.3))) < 0.25


def test_the_odds_are_those_that_both_ends_are_of_one_class():
    p = torch.rand(5, 3, dtype=torch.float64).softmax(1)
    pairs = torch.tensor([[0, 1], [2, 2], [4, 3]])
    same = torch.tensor([float(sum(p[u, c] * p[v, c] for c in range(3))) for u, v in pairs.tolist()], dtype=torch.float64)
    assert torch.allclose(agreement_odds(p, pairs), same.log() - (1 - same).log(), atol=1e-12)
    sure = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert bool(agreement_odds(sure, torch.tensor([[0, 0]])).isfinite().all())


def test_the_odds_of_sure_predictions_are_not_lost_in_single_precision():
    given = evaluation(0.0)
    graph, ids = given.x, given.partition_ids["nodes_after"]
    logits = torch.rand(N_NODES, 3, generator=torch.Generator().manual_seed(0))
    logits[:, 1] += 17
    outputs = outputs_of(SimpleNamespace(y=given.y), ids, logits)
    found, there = EdgeMemory().probabilities(outputs, graph)
    pairs = there.nonzero().flatten()[:8].reshape(4, 2)
    weights = np.exp(np.float64(logits.numpy()[pairs.numpy()]))
    a, b = np.moveaxis(weights / weights.sum(2, keepdims=True), 1, 0)
    unlike = a[:, 0] * (1 - b[:, 0]) + a[:, 2] * (1 - b[:, 2]) + a[:, 1] * (b[:, 0] + b[:, 2])
    np.testing.assert_allclose(agreement_odds(found, pairs), np.log1p(-unlike) - np.log(unlike), rtol=1e-8)


def test_it_asks_for_rulers_that_nobody_judges():
    requests = EdgeMemory(n_models=3).requests("unlearned")
    assert [request for request, _ in requests] == [
        *(Retrained(number=FIRST_FITTED + k) for k in range(3)),
        *(Original(number=FIRST_FITTED + k) for k in range(3)),
    ]
    assert {partitions for _, partitions in requests} == {("nodes_after",)}
    with pytest.raises(InvalidParameters):
        EdgeMemory(n_models=2)


def test_where_originals_know_no_more_it_says_so():
    given = evaluation(0.0)
    outputs = given.provider.outputs
    same = SimpleNamespace(outputs=lambda request, name: outputs(Retrained(number=request.number), name))
    with pytest.raises(RequirementNotMet, match="not defined"):
        EdgeMemory(n_models=N_MODELS).measure(replace(given, provider=same))
