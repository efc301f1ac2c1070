"""Models of propagated features: exact and certified unlearning where kept nodes change with the graph."""

from dataclasses import replace

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, TRAIN_AND_TEST, blocks, requested, task_on, with_noise

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.data.sources.geometric import Planetoid
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.models.linear import LogisticRegression, Ridge
from erasure.training.batches import Batch
from erasure.training.estimators import samples_of
from erasure.training.predictor import ModelInput
from erasure.unlearners.delta_grad import DeltaGrad
from erasure.unlearners.descent_to_delete import DescentToDelete
from erasure.unlearners.exact_deletion import ExactDeletion
from erasure.unlearners.newton_removal import NewtonRemoval, propagation_bound
from erasure.unlearners.sequential import Sequential
from erasure.unlearners.sisa import SISA

KINDS = ["nodes", "edges", "features"]
INPUTS = ModelInput(x_shape=(5,), n_classes=3, task="classification", modality="graph")


def propagated(kind, data=None):
    data = blocks() if data is None else data
    data, partitions = requested(kind, replace(data, x=replace(data.x, propagate=2)))
    return task_on(data, partitions)


def fitted(recipe, task, partition):
    model = recipe.build(INPUTS)
    model.fit(samples_of(task.x, task.y, task.partitions[partition]), seed=0)
    return model


def test_rows_are_means_over_the_neighbours_in_the_graph_that_they_are_seen_in():
    task = propagated("nodes")
    graph = task.x.graph
    kept = [node for node in range(N_NODES) if node not in FORGOTTEN]
    dense = torch.eye(N_NODES)
    dense[graph.edge_index[1], graph.edge_index[0]] = 1.0
    for partition, nodes in (("train", list(range(N_NODES))), ("retain", kept)):
        step = dense[nodes][:, nodes]
        step = step / step.sum(1, keepdim=True)
        rows = step @ step @ graph.x[nodes]
        ids = task.partitions[partition]
        place = [nodes.index(node) for node in task.x.nodes_of(ids).tolist()]
        assert torch.allclose(task.x.gather(ids), rows[place], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ridge_on_a_graph_equals_the_refit(kind):
    task = propagated(kind)
    original, gold = (fitted(Ridge(), task, partition) for partition in ("train", "retain"))
    found = ExactDeletion().run(original, task)
    assert float((original.weight - gold.weight).abs().max()) > 1e-3
    assert torch.allclose(found.model.weight, gold.weight, atol=1e-8)
    assert found.guarantee.kind == "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_the_certified_step_leaves_less_than_its_bound_and_comes_close_to_the_optimum(kind):
    task = propagated(kind)
    recipe = LogisticRegression(l2=0.3, perturbation=1.0)
    original = fitted(recipe, task, "train")
    found = NewtonRemoval(eps=2.0).run(original, task)
    left = samples_of(task.x, task.y, task.partitions["retain"])
    objective = found.model.objective(left)
    true = float(torch.linalg.vector_norm(objective.gradient(found.model.weight)))
    before = float(torch.linalg.vector_norm(objective.gradient(original.weight)))
    assert found.guarantee.kind == "certified"
    assert 0 < found.guarantee.eps <= 2.0
    assert true <= float(found.model.residual) < before
    optimum, _ = objective.minimised(original.weight)
    moved, whole = (float((optimum - weight).norm()) for weight in (found.model.weight, original.weight))
    assert moved < 0.01 * whole


def test_beyond_the_budget_it_is_fitted_again_without_what_is_forgotten():
    task = propagated("edges")
    original = fitted(LogisticRegression(l2=0.05, perturbation=1e-6), task, "train")
    found = NewtonRemoval().run(original, task)
    assert found.guarantee.kind == "exact"
    objective = found.model.objective(samples_of(task.x, task.y, task.partitions["retain"]))
    assert float(torch.linalg.vector_norm(objective.gradient(found.model.weight))) < 1e-8


def test_what_forgotten_nodes_had_changes_no_bit_of_the_refit():
    found = []
    for seed in (5, 6):
        task = propagated("nodes", with_noise(blocks(), torch.tensor(FORGOTTEN), seed))
        found.append(fitted(Ridge(), task, "retain")(task.x.gather(task.partitions["test"])))
    assert torch.equal(*found)


def test_what_rests_on_kept_samples_that_stay_is_refused():
    task = propagated("edges")
    with pytest.raises(RequirementNotMet, match="a request on a graph changes what kept ones see"):
        DescentToDelete().run(fitted(LogisticRegression(), task, "train"), task)
    with pytest.raises(RequirementNotMet, match="cannot exchange samples"):
        ExactDeletion().run(fitted(LogisticRegression(), task, "train"), task)


def test_propagation_is_stored_and_needs_the_whole_graph():
    data = blocks()
    data = replace(data, x=replace(data.x, propagate=2))
    again = from_artifact(*to_artifact(data))
    assert again.x.propagate == 2
    assert "propagate" not in to_artifact(blocks())[1]["column"]["facts"]
    with pytest.raises(InvalidParameters, match='give forgets = "request"'):
        Planetoid(name="Cora", propagate=2)


@pytest.mark.parametrize("method", [SISA(), DeltaGrad(), Sequential(method=SISA(), requests=("forget",), remaining=("retain",))])
def test_methods_for_samples_that_do_not_depend_on_one_another_say_so(method):
    assert "a request on a graph changes what kept ones see" in method.refuse_inputs(propagated("edges").x)
    assert method.refuse_inputs(blocks().x) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("push", [0.0, 0.7])
def test_what_pushing_leaves_out_is_in_the_bound_on_the_exact_gradient(kind, push):
    task = propagated(kind, blocks(dtype=torch.float64))
    recipe = LogisticRegression(l2=9.0, perturbation=60.0)
    found = NewtonRemoval(eps=2.0, push=push).run(fitted(recipe, task, "train"), task)
    plain = NewtonRemoval(eps=2.0).run(fitted(recipe, task, "train"), task)
    objective = found.model.objective(samples_of(task.x, task.y, task.partitions["retain"]))
    true = float(torch.linalg.vector_norm(objective.gradient(found.model.weight)))
    assert found.guarantee.kind == "certified"
    assert true <= float(found.model.residual)
    if push:
        assert float(found.model.residual) > float(plain.model.residual)
    else:
        assert torch.allclose(found.model.weight, plain.model.weight, rtol=0, atol=1e-9)


def test_a_refit_takes_exact_rows_however_much_waits():
    task = propagated("edges")
    recipe = LogisticRegression(l2=0.05, perturbation=1e-6)
    found, plain = (NewtonRemoval(push=push).run(fitted(recipe, task, "train"), task) for push in (10.0, None))
    assert found.guarantee.kind == "exact"
    objective = found.model.objective(samples_of(task.x, task.y, task.partitions["retain"]))
    assert float(torch.linalg.vector_norm(objective.gradient(found.model.weight))) < 1e-8
    assert plain.guarantee.kind == "exact"


def test_the_bound_on_what_rows_that_are_off_change_holds_for_the_worst_of_many():
    generator = torch.Generator().manual_seed(0)
    model = LogisticRegression(l2=0.1, perturbation=1.0).build(INPUTS)
    model.weight.copy_(torch.randn(model.weight.shape, generator=generator, dtype=torch.float64))
    rows = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    y, ids = torch.arange(30) % 3, torch.arange(30)
    objective = model.objective(Batch(rows, y, ids))
    for size in (1e-3, 0.3):
        off = torch.randn(30, 5, generator=generator, dtype=torch.float64)
        off = off * (size / torch.linalg.vector_norm(off, dim=1, keepdim=True))
        exact = model.objective(Batch(rows + off, y, ids)).gradient(model.weight)
        apart = float(torch.linalg.vector_norm(objective.gradient(model.weight) - exact))
        assert apart <= float(propagation_bound(objective, model.weight, torch.full((30,), size, dtype=torch.float64)))


@pytest.mark.parametrize("data", [blocks(), replace(blocks(), x=replace(blocks().x, counts_degrees=True, propagate=2))])
def test_pushing_needs_averages_to_push(data):
    asked, _ = requested("edges", data)
    assert "push is for a request on a graph whose samples are averaged" in NewtonRemoval(push=0.1).refuse_inputs(asked.x)
    assert NewtonRemoval().refuse_inputs(asked.x) is None


def asked(pairs=(), nodes=()):
    """A request for edges or for nodes by name."""
    data = blocks(dtype=torch.float64)
    data = replace(data, x=replace(data.x, propagate=2))
    chosen = (
        GraphEdgesSplitter(parts_names=("gone", "-"), ref_data="train", pairs=pairs)
        if pairs
        else GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", nodes=nodes)
    )
    splitters = (*TRAIN_AND_TEST, chosen, GraphRequestSplitter(**{"edges" if pairs else "nodes": "gone"}))
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    return task_on(data, partitions)


def test_a_node_spends_more_of_the_budget_than_one_of_its_edges():
    edges = [(int(u), int(v)) for u, v in blocks().x.edge_index.T.tolist() if u == FORGOTTEN[0]]
    recipe = LogisticRegression(l2=0.3, perturbation=1.0)
    spent = []
    for task in (asked(pairs=(edges[0],)), asked(nodes=FORGOTTEN[:1])):
        found = NewtonRemoval(eps=2.0).run(fitted(recipe, task, "train"), task)
        assert found.guarantee.kind == "certified"
        spent.append(float(found.model.residual))
    assert 0 < spent[0] < spent[1]


def test_two_requests_in_either_order_end_at_nearly_the_same_weights():
    first, second = [(int(u), int(v)) for u, v in blocks().x.edge_index.T.tolist() if u < v < 24][:6:5]
    recipe, ends = LogisticRegression(l2=0.3, perturbation=1.0), []
    both = asked(pairs=(first, second))
    original = fitted(recipe, both, "train")
    for one in (first, second):
        step = NewtonRemoval(eps=2.0).run(original, asked(pairs=(one,))).model
        ends.append(NewtonRemoval(eps=2.0).run(step, both).model.weight)
    moved = float((ends[0] - original.weight).norm())
    assert float((ends[0] - ends[1]).norm()) < 0.01 * moved
