"""What a request changes of averaged features, against averaging anew, bit for bit."""

from dataclasses import replace

import pytest
import torch
from graph_toys import N_NODES, blocks, requested
from hypothesis import given
from hypothesis import strategies as st

from erasure.training.graphs import Subgraph
from erasure.training.propagation import propagation

KINDS = ["nodes", "edges", "features"]


def by_hand(x, edge_index, n_steps):
    counts = torch.zeros(len(x), len(x)).index_put((edge_index[1], edge_index[0]), torch.ones(1), accumulate=True)
    mean = (counts + torch.eye(len(x))) / (counts.sum(1, keepdim=True) + 1)
    return torch.linalg.matrix_power(mean, n_steps) @ x


def test_features_are_means_over_edges_and_the_node_itself():
    column = blocks().x
    edges = torch.cat([column.edge_index, column.edge_index[:, :7]], dim=1)  # copies count
    found = propagation(column.x, edges, 3).propagated
    assert torch.allclose(found, by_hand(column.x, edges, 3), atol=1e-5)


@given(st.integers(0, 99), st.integers(0, 3), st.integers(0, 25), st.booleans())
def test_after_edges_and_features_are_gone_all_is_as_if_averaged_anew(seed, n_steps, n_gone, blank):
    generator = torch.Generator().manual_seed(seed)
    x, edges = torch.randn(20, 3, generator=generator), torch.randint(20, (2, 60), generator=generator)
    before = propagation(x, edges, n_steps)
    keys = torch.unique(edges[0] * 20 + edges[1])[torch.randperm(40, generator=generator)[:n_gone]]
    kept = ~torch.isin(edges[0] * 20 + edges[1], keys)
    changed = torch.tensor([3, 1] if blank else [], dtype=torch.int64)
    nodes, values = before.after(
        rewired=torch.unique(keys % 20),
        gone=lambda sources, targets: torch.isin(sources * 20 + targets, keys),
        features=(changed, torch.zeros(len(changed), 3)),
    )
    anew = propagation(x.index_fill(0, changed, 0.0), edges[:, kept], n_steps).propagated
    assert torch.equal(before.propagated.index_copy(0, nodes, values), anew)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_steps", [1, 2])
def test_rows_after_a_request_are_those_of_the_cut_graph(kind, n_steps):
    data, partitions = requested(kind)
    plain, ids = data.x, partitions["retain"]
    cut = plain.within(ids)
    rows = cut.row_of[ids]
    anew = Subgraph(cut.x, cut.edge_index, propagate=n_steps).propagated[rows]
    averaged = replace(plain, graph=replace(plain.graph, propagate=n_steps))
    assert torch.equal(averaged.gather(ids), anew)


def test_a_forgotten_node_that_is_asked_for_is_alone():
    data, partitions = requested("nodes")
    averaged = replace(data.x, graph=replace(data.x.graph, propagate=2))
    gone = averaged.seen_in(partitions["forget"], "after")
    assert torch.equal(averaged.gather(gone), data.x.graph.x[partitions["forget"] % N_NODES])


def test_only_the_neighbourhood_of_a_request_is_averaged():
    path = torch.arange(99)
    edges = torch.stack([torch.cat([path, path + 1]), torch.cat([path + 1, path])])
    before = propagation(torch.randn(100, 2), edges, 2)
    keys = torch.tensor([50 * 100 + 51, 51 * 100 + 50])
    nodes, _ = before.after(rewired=torch.tensor([50, 51]), gone=lambda u, v: torch.isin(u * 100 + v, keys))
    assert nodes.tolist() == [49, 50, 51, 52]
