"""Attacks on edges: exact values by loops over all pairs, and independence of order and numbering."""

import pytest
import torch
from graph_toys import N_NODES, evaluation_of, outputs_of, requested
from scipy.spatial import distance

from erasure.data.graph_splitters import SeenInSplitter
from erasure.errors import RequirementNotMet
from erasure.functional.pair_distances import PAIR_DISTANCES, pair_distances
from erasure.measures.edge_membership import DeletedEdgeAUC, EdgeMembership
from erasure.training.graph_requests import NO_SAMPLE


def evaluation(logits=None, *, reverse=False, seen="nodes_after"):
    """What a model with these logits says of every node, with a tenth of the edges forgotten."""
    after = SeenInSplitter(parts_names=("nodes_after", "-"), ref_data="all", graph="after")
    data, partitions = requested("edges", None, after)
    gone = partitions["gone"]
    edges = torch.arange(len(data.x._pairs)) + NO_SAMPLE
    partitions = partitions | {"forgotten_edges": gone, "kept_edges": edges[~torch.isin(edges, gone)]}
    if reverse:
        partitions = {name: ids.flip(0) for name, ids in partitions.items()}
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(N_NODES, 3, generator=generator) if logits is None else logits(data)

    return evaluation_of(data, partitions, lambda name: outputs_of(data, partitions[name], logits))


def value(measure, given):
    (found,) = measure.measure(given)
    return found.value


def test_the_distances_are_scipys():
    a, b = torch.rand(20, 4, dtype=torch.float64).softmax(1), torch.rand(20, 4, dtype=torch.float64).softmax(1)
    for column, name in enumerate(PAIR_DISTANCES):
        expected = [getattr(distance, name)(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
        assert torch.allclose(pair_distances(a, b)[:, column], torch.tensor(expected, dtype=torch.float64), atol=1e-12), name


@pytest.mark.parametrize("name", ["cosine", "canberra"])
def test_the_area_counts_every_pair_of_a_kept_and_a_forgotten_edge(name):
    given = evaluation()
    probabilities = given.subject.outputs("nodes_after").probabilities.double().numpy()

    def closeness(partition):
        pairs = given.x.ends_of(given.ids(partition)).tolist()
        return [-getattr(distance, name)(probabilities[u], probabilities[v]) for u, v in pairs]

    kept, forgotten = closeness("kept_edges"), closeness("forgotten_edges")
    wins = sum((k > f) + 0.5 * (k == f) for k in kept for f in forgotten)
    assert value(DeletedEdgeAUC(distance=name), given) == pytest.approx(wins / len(kept) / len(forgotten), abs=1e-9)


@pytest.mark.parametrize("measure", [DeletedEdgeAUC(), EdgeMembership(), EdgeMembership(attack="trained")])
def test_the_order_of_the_partitions_does_not_matter(measure):
    assert value(measure, evaluation()) == pytest.approx(value(measure, evaluation(reverse=True)), abs=1e-9)


@pytest.mark.parametrize("attack", ["distance", "trained"])
def test_a_model_that_spreads_over_edges_is_found_out(attack):
    def spread(data):
        """Logits of nodes next to one another are alike: random ones, averaged over the whole graph's edges."""
        logits = 4 * torch.randn(N_NODES, 3, generator=torch.Generator().manual_seed(2))
        source, target = data.x.graph.edge_index
        for _ in range(2):
            logits = (logits + logits.new_zeros(N_NODES, 3).index_add(0, target, logits[source])) / 2
        return logits

    measure = EdgeMembership(attack=attack)
    assert value(measure, evaluation(spread)) > value(measure, evaluation()) + 0.1
    assert abs(value(measure, evaluation()) - 0.5) < 0.2


def test_pairs_without_an_edge_are_the_same_for_every_model():
    def constant(data):
        return torch.zeros(N_NODES, 3)

    assert value(EdgeMembership(), evaluation(constant)) == 0.5


def test_what_is_no_graph_is_refused():
    given = evaluation()
    with pytest.raises(RequirementNotMet, match="both ends"):
        value(DeletedEdgeAUC(nodes="few"), _with(given, few=torch.tensor([N_NODES])))
    mixed = torch.cat([given.ids("nodes_after"), torch.tensor([0])])
    with pytest.raises(RequirementNotMet, match="several graphs"):
        value(DeletedEdgeAUC(nodes="mixed"), _with(given, mixed=mixed))


def _with(given, **partitions):
    for name, ids in partitions.items():
        given.partition_ids[name] = ids
    return given
