"""The projection by a plain pseudo-inverse, and what it leaves of a direction that only forgotten samples span."""

from dataclasses import replace

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, blocks, requested, task_on
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.models.linear import LogisticRegression, Ridge
from erasure.training.estimators import samples_of
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import ModelInput
from erasure.unlearners.projector import Projector

N_WIDE = 12
KEPT = [node for node in range(N_NODES) if node not in FORGOTTEN]


def task_with_directions(kind="nodes"):
    """Features of twelve columns, of which the kept nodes use six and forgotten ones two more."""
    data = blocks(dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    x = torch.zeros(N_NODES, N_WIDE, dtype=torch.float64)
    x[:, :6] = torch.randn(N_NODES, 6, generator=generator, dtype=torch.float64)
    x[list(FORGOTTEN), 6:8] = torch.randn(len(FORGOTTEN), 2, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(N_WIDE, N_WIDE, generator=generator, dtype=torch.float64)).Q
    data = replace(data, x=NodeColumn(x @ rotation, data.x.edge_index, propagate=2), x_shape=(N_WIDE,))
    return task_on(*requested(kind, data)), rotation


def fitted(recipe, task):
    model = recipe.build(ModelInput((N_WIDE,), 3, modality="graph"))
    model.fit(samples_of(task.x, task.y, task.partitions["train"]), seed=0)
    return model


@pytest.mark.parametrize("recipe", [Ridge(), LogisticRegression(l2=0.05)], ids=["ridge", "logistic"])
def test_weights_are_projected_on_what_kept_nodes_span(recipe):
    task, rotation = task_with_directions()
    model = fitted(recipe, task)
    found = Projector().run(model, task).model
    x = task.x.graph.x[KEPT]
    plain = x.T @ torch.linalg.pinv(x @ x.T) @ x
    before, after = (m.weight[:-1].T if isinstance(recipe, Ridge) else m.weight[:, :-1] for m in (model, found))
    assert torch.allclose(after, before @ plain, atol=1e-9)
    own = rotation[6:8].T
    assert float((before @ own).abs().max()) > 1e-3
    assert float((after @ own).abs().max()) < 1e-9
    again = Projector().run(found, task).model
    assert torch.allclose(again.weight, found.weight, atol=1e-12)


def test_a_network_of_one_layer_answers_kept_nodes_as_before():
    task, _ = task_with_directions()
    model = nn.Linear(N_WIDE, 3).double()
    found = Projector().run(model, task).model
    assert not torch.allclose(found.weight, model.weight)
    kept = task.x.gather(task.partitions["retain"])
    assert torch.allclose(found(kept), model(kept), atol=1e-9)


def test_forgotten_edges_span_nothing_of_their_own():
    task, _ = task_with_directions("edges")
    model = fitted(Ridge(), task)
    assert torch.allclose(Projector().run(model, task).model.weight, model.weight, atol=1e-9)


def test_other_networks_are_refused():
    task, _ = task_with_directions()
    with pytest.raises(RequirementNotMet, match="for linear models"):
        Projector().try_on(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), None, task.criterion)
