"""Averages that are pushed on where changes are long enough: exact at zero, and within their bound otherwise."""

from dataclasses import replace

import pytest
import torch
from graph_toys import TRAIN_AND_TEST, blocks, requested

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.training.propagation import propagation
from erasure.training.pushed_propagation import PushedPropagation, pushed_after

N = 20


def drawn(seed, n_gone):
    """Features and edges, and which edges go: their keys, where they arrive, and the mask of those that stay."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    edges = torch.randint(N, (2, 60), generator=generator)
    keys = edges[0] * N + edges[1]
    some = torch.unique(keys)
    gone = some[torch.randperm(len(some), generator=generator)[:n_gone]]
    return x, edges, gone, ~torch.isin(keys, gone)


def without(known, gone, **features):
    return known.after(rewired=torch.unique(gone % N), gone=lambda u, v: torch.isin(u * N + v, gone), **features)


def distances(found, exact):
    return torch.linalg.vector_norm(found.propagated - exact, dim=1)


@pytest.mark.parametrize(
    ("seed", "n_steps", "n_gone", "blank"), [(0, 0, 5, True), (1, 1, 25, False), (2, 2, 12, True), (3, 3, 0, True)]
)
def test_without_a_threshold_it_is_averaging_anew(seed, n_steps, n_gone, blank):
    x, edges, gone, kept = drawn(seed, n_gone)
    changed = torch.tensor([3, 1] if blank else [], dtype=torch.int64)
    known = PushedPropagation.of(propagation(x, edges, n_steps), 0.0)
    found = without(known, gone, features=(changed, torch.full((len(changed), 3), 0.5, dtype=x.dtype)))
    exact = propagation(x.index_fill(0, changed, 0.5), edges[:, kept], n_steps).propagated
    assert float(distances(found, exact).max()) < 1e-13
    assert not found.errors().any()


@pytest.mark.parametrize(("seed", "n_steps", "threshold"), [(0, 1, 0.1), (1, 2, 0.05), (2, 2, 0.4), (3, 3, 0.2), (4, 2, 100.0)])
def test_what_waits_is_within_the_bound_request_after_request(seed, n_steps, threshold):
    x, edges, gone, _ = drawn(seed, 20)
    known = PushedPropagation.of(propagation(x, edges, n_steps), threshold)
    keys = edges[0] * N + edges[1]
    for n_gone in (5, 12, 20):
        known = without(known, gone[:n_gone])
        exact = propagation(x, edges[:, ~torch.isin(keys, gone[:n_gone])], n_steps).propagated
        assert bool((distances(known, exact) <= known.errors() + 1e-12).all())
        assert float(known.errors().max()) <= n_steps * threshold + 1e-12


@pytest.mark.parametrize(("seed", "threshold"), [(0, 0.1), (1, 0.4)])
def test_an_update_and_pushing_from_nothing_differ_by_both_bounds_at_most(seed, threshold):
    x, edges, gone, kept = drawn(seed, 10)
    updated = without(PushedPropagation.of(propagation(x, edges, 2), threshold), gone)
    nothing = propagation(torch.zeros_like(x), edges[:, kept], 2)
    anew = PushedPropagation.of(nothing, threshold).after(rewired=gone[:0], features=(torch.arange(N), x))
    apart = torch.linalg.vector_norm(updated.propagated - anew.propagated, dim=1)
    assert bool((apart <= updated.errors() + anew.errors() + 1e-12).all())
    exact = propagation(x, edges[:, kept], 2).propagated
    assert bool((distances(anew, exact) <= anew.errors() + 1e-12).all())


def test_a_change_that_waits_is_passed_on_when_others_have_added_to_it():
    path = torch.stack([torch.arange(4), torch.arange(1, 5)])
    known = PushedPropagation.of(propagation(torch.zeros(5, 1, dtype=torch.float64), path, 2), 0.5)

    def first_is(value):
        return known.after(rewired=path[0, :0], features=(torch.tensor([0]), torch.tensor([[value]], dtype=torch.float64)))

    known = first_is(0.4)
    assert not known.propagated.any()
    assert known.errors().tolist() == pytest.approx([0.4, 0.3, 0.1, 0, 0])
    known = first_is(1.2)
    # The node's own mean is 1.2, which is passed on to the next but one as well; half of that waits at the next node.
    assert known.propagated.flatten().tolist() == pytest.approx([1.2, 0.6 + 0.3, 0.3, 0, 0])
    assert not known.errors().any()


def test_one_change_far_away_touches_nobody_else():
    path = torch.arange(99)
    edges = torch.stack([torch.cat([path, path + 1]), torch.cat([path + 1, path])])
    keys = torch.tensor([50 * 100 + 51, 51 * 100 + 50])
    known = PushedPropagation.of(propagation(torch.randn(100, 2), edges, 2), 0.0)
    found = known.after(rewired=torch.tensor([50, 51]), gone=lambda u, v: torch.isin(u * 100 + v, keys))
    assert found.arrived.nodes.tolist() == [49, 50, 51, 52]


@pytest.mark.parametrize("kind", ["nodes", "edges", "features"])
def test_rows_of_a_graph_after_a_request_are_the_exact_ones_without_a_threshold(kind):
    data, partitions = requested(kind)
    graph = replace(data.x, graph=replace(data.x.graph, propagate=2))
    ids = partitions["retain"]
    found = pushed_after(graph, 0.0)
    assert torch.allclose(found.propagated[graph.nodes_of(ids)], graph.gather(ids), atol=1e-6)
    assert pushed_after(graph, 0.0) is found


def test_a_later_request_pushes_on_from_the_one_before():
    data = blocks(dtype=torch.float64)
    data = replace(data, x=replace(data.x, propagate=2))
    splitters = (
        *TRAIN_AND_TEST,
        GraphEdgesSplitter(parts_names=("gone 1", "-"), ref_data="train", percentage=0.1),
        GraphRequestSplitter(parts_names=("forget 1", "retain 1"), edges="gone 1"),
        GraphEdgesSplitter(parts_names=("gone 2", "-"), ref_data="retain 1", percentage=0.1),
        GraphRequestSplitter(ref_data="retain 1", edges="gone 2"),
    )
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    ids = partitions["retain"]
    for threshold in (0.0, 0.2):
        found = pushed_after(data.x, threshold)
        apart = torch.linalg.vector_norm(found.propagated[data.x.nodes_of(ids)] - data.x.gather(ids), dim=1)
        assert bool((apart <= found.errors()[data.x.nodes_of(ids)] + 1e-12).all())
        assert threshold in data.x.earlier.pushed
