"""Models of propagated features: exact and certified unlearning where kept nodes change with the graph."""

from dataclasses import replace

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, blocks, requested, task_on, with_noise

from erasure.data.sources.geometric import Planetoid
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.models.linear import LogisticRegression, Ridge
from erasure.training.estimators import samples_of
from erasure.training.predictor import ModelInput
from erasure.unlearners.delta_grad import DeltaGrad
from erasure.unlearners.descent_to_delete import DescentToDelete
from erasure.unlearners.exact_deletion import ExactDeletion
from erasure.unlearners.newton_removal import NewtonRemoval
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
