"""The attack on edges by shadow graphs: what is planted is found, gold knows nothing, and shadows see the graphs that they should."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from graph_toys import N_NODES, blocks, evaluation_of, outputs_of, requested

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphRequestSplitter, SeenInSplitter
from erasure.data.graph_strangers import GraphStrangersSplitter
from erasure.errors import InvalidParameters, PartitionError, RequirementNotMet
from erasure.functional.membership import auc
from erasure.functional.membership_scores import gaussian_fits, online_score
from erasure.measures.attacks.edge_lira import EdgeLiRA
from erasure.measures.edge_memory import agreement_odds
from erasure.measures.requested_models import Shadow
from erasure.stages.blocks import ModelStack, seen_ids
from erasure.training.graph_requests import RequestedGraph, edge_pairs, pair_keys
from erasure.training.shadow_graphs import has_edges, pair_ids, shadow_graph

N_SHADOWS = 8
MEASURE = EdgeLiRA(forgotten="gone", n_shadows=N_SHADOWS)


def graph_with_strangers(n=20):
    strangers = GraphStrangersSplitter(parts_names=("strangers", "-"), ref_data="all", n=n)
    after = SeenInSplitter(parts_names=("nodes_after", "-"), ref_data="all", graph="after")
    return requested("edges", blocks(), strangers, after)


def seen_by(shadow, partitions):
    return seen_ids(shadow, ModelStack(requests=(shadow,), seeds=(0,), way="train", root=5), partitions)


def logits(pairs, seed):
    """Of every node; both ends of some pairs are drawn to one class."""
    drawn = torch.randn(N_NODES, 3, generator=torch.Generator().manual_seed(seed)) * 0.2
    for number, pair in enumerate(pairs):
        drawn[pair] += torch.eye(3)[number % 3]
    return drawn


def evaluation(knows):
    """A model that knows some of the pairs of its graph."""
    data, partitions = graph_with_strangers()
    nodes = partitions["nodes_after"]

    def said(shadow, name):
        assert name == "nodes_after"
        seen = seen_by(shadow, partitions)
        return outputs_of(data, nodes, logits(data.x.ends_of(seen[seen >= 1 << 40]), 10 + shadow.number))

    provider = SimpleNamespace(outputs=said, seen=lambda shadow: seen_by(shadow, partitions))
    pairs = data.x.ends_of(partitions[knows]) if knows else ()
    return evaluation_of(data, partitions, lambda name: outputs_of(data, nodes, logits(pairs, 3)), provider=provider)


def area(given):
    return next(value.value for value in MEASURE.measure(given) if value.name == "EdgeLiRA AUC")


def test_a_model_that_knows_the_edges_is_told_from_one_that_does_not():
    assert area(evaluation("gone")) > 0.8
    assert abs(area(evaluation("")) - 0.5) < 0.2
    assert area(evaluation("strangers")) < 0.2


def test_it_is_the_likelihood_ratio_of_each_pair():
    given = evaluation("gone")
    ids = torch.cat([given.ids(name).sort().values for name in ("gone", "strangers")])
    pairs, n = given.x.ends_of(ids), len(given.ids("gone"))

    def odds(outputs):
        p = outputs.probabilities.double()[outputs.ids.sort().indices]
        return agreement_odds(p, pairs)

    said = torch.stack([odds(given.provider.outputs(shadow, "nodes_after")) for shadow in MEASURE.shadows])
    has = torch.tensor([[int(i) in given.provider.seen(shadow).tolist() for i in ids] for shadow in MEASURE.shadows])
    scores = online_score(
        odds(given.outputs("nodes_after")), gaussian_fits(said, has, pooled=True), gaussian_fits(said, ~has, pooled=True)
    )
    assert area(given) == pytest.approx(auc(scores[:n], scores[n:]))


def test_shadow_graphs_have_the_kept_edges_and_half_of_the_rest():
    data, partitions = graph_with_strangers()
    kept = {tuple(pair) for pair in data.x.edges_after.T.tolist()}
    counts = torch.zeros(len(partitions["gone"]) + 20)
    pool = torch.cat([partitions["gone"], partitions["strangers"]])
    for shadow in MEASURE.shadows:
        seen = seen_by(shadow, partitions)
        x, nodes = shadow_graph(data.x, seen)
        assert torch.equal(nodes, partitions["retain"].sort().values)
        own = {tuple(pair) for pair in data.x.ends_of(seen[seen >= 1 << 40]).tolist()}
        batch = x.within(nodes).gather(nodes)
        assert {tuple(pair) for pair in batch.edge_index.T.tolist()} == kept | own | {(b, a) for a, b in own}
        assert len(own) in {len(pool) // 2, -(-len(pool) // 2)}
        counts += torch.isin(pool, seen)
    assert counts.tolist() == [N_SHADOWS / 2] * len(pool)


def test_ids_of_pairs_name_both_ends():
    data, partitions = graph_with_strangers()
    pairs = edge_pairs(data.x.graph)[:3]
    mixed = torch.cat([pair_ids(pairs, N_NODES), partitions["gone"][:2], pair_ids(pairs.flip(1), N_NODES)])
    assert torch.equal(data.x.ends_of(mixed), torch.cat([pairs, data.x.ends_of(partitions["gone"][:2]), pairs]))
    assert has_edges(mixed)
    assert not has_edges(partitions["retain"])


def test_strangers_have_no_edge_and_are_drawn_once():
    data, partitions = graph_with_strangers(n=60)
    pairs = data.x.ends_of(partitions["strangers"])
    keys = pair_keys(pairs.T, N_NODES)
    assert len(torch.unique(keys)) == 60
    assert not torch.isin(keys, pair_keys(data.x.graph.edge_index, N_NODES)).any()
    assert (pairs[:, 0] < pairs[:, 1]).all()


def refused(*splitters):
    with pytest.raises(PartitionError) as error:
        requested("nodes", blocks(), *splitters)
    return str(error.value)


def test_what_strangers_cannot_be_is_said():
    assert "pairs without an edge are asked for" in refused(
        GraphStrangersSplitter(parts_names=("s", "-"), ref_data="train", n=500)
    )
    strangers = GraphStrangersSplitter(parts_names=("s", "-"), ref_data="retain", n=5)
    later = {"parts_names": ("f2", "r2"), "ref_data": "retain"}
    assert "pairs without an edge, and edges are asked for" in refused(strangers, GraphRequestSplitter(edges="s", **later))
    cut = GraphEdgesSplitter(parts_names=("a", "-"), ref_data="s", n=2)
    assert "pairs without an edge, and edges are asked for" in refused(strangers, cut)
    data, partitions = requested("nodes")
    with pytest.raises(RequirementNotMet, match="forget edges, by one GraphRequest"):
        shadow_graph(data.x, torch.cat([partitions["retain"], pair_ids(torch.tensor([[1, 2]]), N_NODES)]))
    data, partitions = graph_with_strangers()
    featured = RequestedGraph(
        replace(data.x.graph, edge_attr=torch.ones(data.x.graph.edge_index.shape[1], 1)), "edges", data.x.nodes, data.x.pairs
    )
    with pytest.raises(RequirementNotMet, match="have features"):
        shadow_graph(featured, partitions["strangers"])
    for n in (2, 5):
        with pytest.raises(InvalidParameters, match="even number from 4"):
            EdgeLiRA(n_shadows=n)


def test_it_asks_for_models_of_shadow_graphs():
    requests = MEASURE.requests("unlearned")
    assert [request for request, _ in requests] == [
        Shadow(number=k, pool=("gone", "strangers"), always=("retain",)) for k in range(N_SHADOWS)
    ]
    assert {partitions for _, partitions in requests} == {("nodes_after",)}
