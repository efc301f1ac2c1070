"""Influence of what is removed from a graph: identities, and values by plain formulas in float64."""

import warnings
from dataclasses import replace

import pytest
import torch
from graph_toys import N_NODES, Linear, Squares, blocks, requested, task_on

from erasure.errors import Diverged
from erasure.training.batches import Batches
from erasure.training.forward import logits_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

from erasure.models.graph import GNN
from erasure.training.predictor import ModelInput, build_model
from erasure.unlearners.graph_influence import GraphInfluence, loss_gradient
from erasure.unlearners.influence_unlearning import InfluenceUnlearning
from erasure.unlearners.unlink import Unlink

KINDS = ["nodes", "edges", "features"]
DECAY = 0.05


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def summed_loss(task, role, loss):
    """The summed loss over a partition as a function of the flat weights of :class:`Linear`."""
    (batch,) = Batches(task.x, task.y, task.partitions[role], N_NODES)
    model = Linear()

    def value(weights):
        w, b = weights[:15].reshape(3, 5), weights[15:]
        return loss(torch.func.functional_call(model, {"layer.weight": w, "layer.bias": b}, (batch.x,)), batch.y).sum()

    return value


def cross_entropy(logits, y):
    return torch.nn.functional.cross_entropy(logits, y, reduction="none")


def setting(kind):
    data, partitions = requested(kind, blocks(dtype=torch.float64))
    return task_on(data, partitions)


def seen(method, task):
    return task.seen_by(method)


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_is_the_difference_of_two_gradients(kind):
    task, model = setting(kind), Linear()
    method = GraphInfluence()
    before, after = (torch.func.grad(summed_loss(task, role, cross_entropy))(flat(model)) for role in ("train", "retain"))
    found = loss_gradient(model, seen(method, task), "train") - loss_gradient(model, seen(method, task), "retain")
    assert torch.allclose(found, before - after, atol=1e-12)
    assert float((before - after).norm()) > 0.1


@pytest.mark.parametrize(
    ("kind", "hessian_of", "curvature"),
    [("nodes", "train", "hessian"), ("edges", "retain", "gauss-newton"), ("features", "train", "gauss-newton")],
)
def test_the_step_solves_the_plain_system(kind, hessian_of, curvature):
    task, model = setting(kind), Linear()
    theta = flat(model)
    change = torch.func.grad(summed_loss(task, "train", cross_entropy))(theta) - torch.func.grad(
        summed_loss(task, "retain", cross_entropy)
    )(theta)
    n, n_left = len(task.partitions["train"]), len(task.partitions["retain"])
    change = change + (n - n_left) * DECAY * theta
    hessian = torch.func.hessian(summed_loss(task, hessian_of, cross_entropy))(theta)
    hessian = hessian + len(task.partitions[hessian_of]) * DECAY * torch.eye(len(theta), dtype=torch.float64)
    shift = 0.01 * float(torch.linalg.eigvalsh(hessian).max())
    expected = theta + torch.linalg.solve(hessian + shift * torch.eye(len(theta), dtype=torch.float64), change)
    method = GraphInfluence(
        curvature=curvature, damping=0.01, hessian_of=hessian_of, weight_decay=DECAY, tolerance=1e-10, power_steps=60
    )
    assert torch.allclose(flat(method.run(model, task).model), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_gold_for_a_quadratic_loss_on_a_linear_network(kind):
    task = setting(kind)
    task = replace(task, criterion=Squares())

    def fitted(role):
        """The minimum of the mean loss with decay, by its normal equations."""
        value, n = summed_loss(task, role, Squares().per_sample), len(task.partitions[role])
        zero = torch.zeros(18, dtype=torch.float64)
        hessian = torch.func.hessian(value)(zero) + n * DECAY * torch.eye(18, dtype=torch.float64)
        return torch.linalg.solve(hessian, -torch.func.grad(value)(zero))

    original, gold = fitted("train"), fitted("retain")
    model = Linear()
    torch.nn.utils.vector_to_parameters(original, model.parameters())
    method = GraphInfluence(hessian_of="retain", damping=0.0, weight_decay=DECAY, tolerance=1e-12)
    found = flat(method.run(model, task).model)
    assert float((original - gold).norm()) > 1e-2
    assert torch.allclose(found, gold, atol=1e-9)


def gcn(data):
    inputs = ModelInput(x_shape=data.x_shape, n_classes=3, task="classification", modality="graph")
    model = GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False)
    return build_model(model, inputs, 1, torch.device("cpu")).eval()


def test_a_request_that_changes_nothing_leaves_the_model_as_it_is():
    data, partitions = requested("edges")
    same = partitions | {"retain": partitions["train"]}
    model = gcn(data)
    found = GraphInfluence().run(model, task_on(data, same)).model
    assert torch.equal(flat(found), flat(model))


def test_the_step_lowers_the_gradient_on_the_graph_after():
    data, partitions = requested("edges")
    task, model, method = task_on(data, partitions), gcn(data), GraphInfluence(damping=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (batch,) = Batches(task.x, task.y, partitions["train"], N_NODES)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits_of(model(batch.x)), batch.y).backward()
        optimizer.step()
    unlearned = method.run(model, task).model
    before, after = (float(loss_gradient(each, seen(method, task), "retain").norm()) for each in (model, unlearned))
    assert after < before


def test_sparse_features_take_the_same_step():
    data = blocks()
    thin = data.x.x.clone()
    thin[torch.rand(thin.shape, generator=torch.Generator().manual_seed(0)) > 0.08] = 0.0
    wide = torch.cat([thin, torch.zeros(N_NODES, 20)], dim=1)
    data = replace(data, x=replace(data.x, x=wide), x_shape=(25,))
    data, partitions = requested("edges", data)
    model = gcn(data)
    assert data.x.within(partitions["train"]).sparse is not None
    found = flat(GraphInfluence(tolerance=1e-6).run(model, task_on(data, partitions)).model)
    dense = replace(data, x=_Dense(data.x))
    again = flat(GraphInfluence(tolerance=1e-6).run(model, task_on(dense, partitions)).model)
    assert torch.allclose(found, again, atol=1e-5)
    # The older method on curvature meets the same features.
    InfluenceUnlearning(max_steps=2).run(gcn(data), task_on(data, partitions))


class _Dense:
    """A column whose batches know nothing of sparse features."""

    def __init__(self, column):
        self.column = column

    def gather(self, ids):
        return replace(self.column.gather(ids), view=None)

    def __len__(self):
        return len(self.column)


def test_what_cannot_be_solved_is_said():
    data, partitions = requested("nodes")
    with pytest.raises(Diverged, match=r"relative residual of .* after 1 steps"):
        GraphInfluence(max_steps=1, damping=0.01).run(gcn(data), task_on(data, partitions))


def test_noise_is_drawn_from_the_methods_own_stream():
    data, partitions = requested("nodes")
    task, model = task_on(data, partitions), gcn(data)
    plain, noisy, again = (flat(GraphInfluence(noise_std=std).run(model, task).model) for std in (0.0, 0.1, 0.1))
    assert torch.equal(noisy, again)
    assert 0.05 < float((noisy - plain).std()) < 0.15


def test_the_influence_of_the_forget_set_alone_leaves_its_neighbours_out():
    task, model = setting("nodes"), Linear()
    alone, whole = (flat(GraphInfluence(influence=each).run(model, task).model) for each in ("forget", "removal"))
    assert not torch.allclose(alone, whole, atol=1e-3)


def test_unlink_leaves_the_weights():
    data, partitions = requested("edges")
    model = gcn(data)
    assert torch.equal(flat(Unlink().run(model, task_on(data, partitions)).model), flat(model))
    assert Unlink().changes_nothing()


def test_a_method_reads_sparse_features_without_their_zeros():
    """The network of a method gets the graph itself and no copy, which knows nothing of what has been computed of it."""
    data = blocks()
    wide = torch.cat([data.x.x, torch.zeros(N_NODES, 60)], dim=1)
    data, partitions = requested("edges", replace(data, x=replace(data.x, x=wide), x_shape=(65,)))
    task, seen = task_on(data, partitions), []

    class Watching(Unlink):
        def unlearn(self, model, task):
            model.register_forward_pre_hook(lambda _, args: seen.append(args[0].sparse()))
            model(task.x.gather(partitions["train"]))
            return model

    Watching().run(gcn(data), task)
    assert len(seen) == 1
    assert seen[0] is not None
