"""Steps by a stored curvature, on changed features and towards predicted answers: WIN-U, feature unlearning and datamodel matching."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_second_order import SquaredError, flat, linear_model, loss_gradients, net, part, solved, weights
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.module import register_module_forward_hook
from toys import SgdByHand, Shuffles, distance, logits_by_hand, same_model, sgd, start, tiny_task

import erasure
from erasure.errors import Diverged, RequirementNotMet
from erasure.training.calls import Criterion
from erasure.training.curvature import moved_logits
from erasure.training.randomness import isolated
from erasure.unlearners.contract import model_digest
from erasure.unlearners.datamodel_matching import DatamodelMatching
from erasure.unlearners.feature_unlearning import FeatureUnlearning
from erasure.unlearners.win_u import WINU

# Curvature of all samples by loops


def jacobian_by_loop(model, row):
    """Gradient of each logit of one sample: (K, P)."""
    logits = model(row[None])[0]
    rows = [torch.autograd.grad(logit, list(model.parameters()), retain_graph=True) for logit in logits]
    return torch.stack([torch.cat([g.flatten() for g in each]) for each in rows])


def gauss_newton_by_loop(model, x):
    total = 0.0
    for row in x:
        jacobian, p = jacobian_by_loop(model, row), model(row[None]).softmax(1)[0].detach()
        total = total + jacobian.T @ (p.diag() - p[:, None] * p[None]) @ jacobian
    return total


def eye(n):
    return torch.eye(n, dtype=torch.float64)


# WIN-U


def test_win_u_steps_by_the_curvature_that_is_left():
    context, model = tiny_task(), net()
    x, _ = part(context, "train")
    gone, y = part(context, "forget")
    left = gauss_newton_by_loop(model, x) - gauss_newton_by_loop(model, gone)
    gradient = loss_gradients(model, gone, y).sum(0)
    expected = 0.5 * torch.linalg.solve(left + 24 * 0.01 * eye(len(gradient)), gradient)
    # By Woodbury's identity with a root of A, as A itself has no inverse.
    whole = gauss_newton_by_loop(model, x) + 24 * 0.01 * eye(len(gradient))
    roots = []
    for row in gone:
        p = model(row[None]).softmax(1)[0].detach()
        values, vectors = torch.linalg.eigh(p.diag() - p[:, None] * p[None])
        roots.append((vectors * values.clamp(min=0).sqrt()).T @ jacobian_by_loop(model, row))
    root = torch.cat(roots)
    inner = torch.linalg.inv(eye(len(root)) - root @ torch.linalg.solve(whole, root.T))
    one = torch.linalg.solve(whole, gradient)
    assert torch.allclose(0.5 * (one + torch.linalg.solve(whole, root.T @ (inner @ (root @ one)))), expected, atol=1e-10)
    unlearned = WINU(damping=0.01, scale=0.5).run(model, context)
    assert torch.allclose(flat(unlearned.model) - flat(model), expected, atol=1e-10)
    assert unlearned.kept_bytes == 8 * len(gradient) ** 2


def test_win_u_is_exact_for_a_quadratic_loss_and_reads_no_retain_sample():
    context = replace(tiny_task(), criterion=Criterion("classification", SquaredError()))
    original, gold = (linear_model(solved(*part(context, name))) for name in ("train", "retain"))
    unlearned = WINU(damping=0.0).run(original, context).model
    assert torch.allclose(flat(unlearned), flat(gold), rtol=1e-10, atol=1e-12)
    assert WINU().partitions() == {"forget": "forget", "train": "train"}
    assert same_model(
        original, WINU().run(original, replace(context, partitions={**context.partitions, "forget": context.y[:0]})).model
    )


def test_win_u_of_a_generalised_linear_model_is_the_newton_step_on_what_is_kept():
    # By the exact Hessian of the retain set, as certified removal steps: at a linear map Gauss-Newton's is that.
    context = tiny_task()
    with isolated(2):
        model = nn.Sequential(nn.Linear(4, 3)).double().eval()
    shapes = [p.shape for p in model.parameters()]

    def loss(point, name):
        weight, bias = (v.view(s) for v, s in zip(point.split([s.numel() for s in shapes]), shapes, strict=True))
        x, y = part(context, name)
        return cross_entropy(x @ weight.T + bias, y, reduction="sum")

    hessian = torch.autograd.functional.hessian(lambda point: loss(point, "retain"), flat(model)) + 24 * 0.01 * eye(15)
    gradient = torch.autograd.functional.jacobian(lambda point: loss(point, "forget"), flat(model))
    unlearned = WINU(damping=0.01).run(model, context).model
    assert torch.allclose(flat(unlearned) - flat(model), torch.linalg.solve(hessian, gradient), rtol=0, atol=1e-12)


def test_win_u_refuses_what_is_too_large_or_not_positive():
    with pytest.raises(RequirementNotMet, match="LastLayers"):
        WINU(max_weights=10).run(net(), tiny_task())
    with pytest.raises(Diverged, match="damping"):
        WINU(damping=0.0).run(net(), tiny_task())


# Features


def changed(x, places, value):
    x = x.clone()
    x[:, places] = value
    return x


@pytest.mark.parametrize("order", ["first", "second"])
def test_feature_unlearning_steps_by_the_difference_of_gradients(order):
    context, model = tiny_task(), net()
    x, y = part(context, "forget")
    new = changed(x, [1, 3], 0.5)
    difference = (loss_gradients(model, new, y) - loss_gradients(model, x, y)).sum(0)
    if order == "first":
        expected = -0.02 * difference
    else:
        kept, labels = part(context, "retain")
        everything, all_labels = torch.cat([new, kept]), torch.cat([y, labels])
        shapes = [p.shape for p in model.parameters()]

        def loss(point):
            parts = [piece.view(shape) for piece, shape in zip(point.split([s.numel() for s in shapes]), shapes, strict=True)]
            return nn.functional.cross_entropy(logits_by_hand(parts, everything), all_labels)

        hessian = torch.autograd.functional.hessian(loss, flat(model))
        expected = -torch.linalg.solve(hessian + 0.5 * eye(len(hessian)), difference / 24)
    method = FeatureUnlearning(
        features=(1, 3), value=0.5, order=order, rate=0.02, damping=0.5, curvature="hessian", tolerance=1e-13, max_steps=300
    )
    assert torch.allclose(flat(method.run(model, context).model) - flat(model), expected, atol=1e-10)


def test_feature_unlearning_is_exact_for_a_quadratic_loss_and_still_where_nothing_changes():
    context = replace(tiny_task(), criterion=Criterion("classification", SquaredError()))
    original = linear_model(solved(*part(context, "train")))
    x = context.x.values[:24].clone()
    x[:6, 2] = 0.0
    method = FeatureUnlearning(features=(2,), damping=0.0, max_steps=200, tolerance=1e-12)
    expected = flat(linear_model(solved(x, context.y[:24])))
    assert torch.allclose(flat(method.run(original, context).model), expected, rtol=1e-10, atol=1e-11)
    context.x.values[:6, 2] = 0.0
    assert same_model(original, method.run(original, context).model)


def test_feature_unlearning_refuses_features_that_are_not_there():
    with pytest.raises(RequirementNotMet, match="feature 4"):
        FeatureUnlearning(features=(0, 4)).run(net(), tiny_task())
    assert FeatureUnlearning(features=(0,), order="first").access() == "forget"


# Datamodel matching


def predicted_by_loop(task, model, ids):
    """Logits moved to first order by the damped Gauss-Newton step without the forget set."""
    gradients = {name: loss_gradients(model, *part(task, name)) for name in ("forget", "retain")}
    v = gradients["forget"].sum(0) / 24 - gradients["retain"].sum(0) * 6 / (24 * 18)
    curvature = gauss_newton_by_loop(model, part(task, "retain")[0]) / 18 + 0.1 * eye(len(v))
    step = torch.linalg.solve(curvature, v)
    return {i: model(task.x.values[i][None])[0].detach() + jacobian_by_loop(model, task.x.values[i]) @ step for i in ids}


def test_dmm_matches_the_predicted_answers_step_by_step():
    context, model = tiny_task(), net()
    subset = context.partitions["retain"][torch.randperm(18, generator=context.streams.torch("subset"))[:9]]
    ids = torch.cat([context.partitions["forget"], subset])
    targets = predicted_by_loop(context, model, ids.tolist())
    by_hand, passes = start(model), Shuffles(context, "retain", ids)
    steps = SgdByHand(by_hand, 0.2)
    for _ in range(3):
        for some in passes.one_pass():
            away = logits_by_hand(by_hand, context.x.values[some]) - torch.stack([targets[i] for i in some.tolist()])
            steps.step((away**2).mean())
    method = DatamodelMatching(epochs=3, damping=0.1, max_steps=300, retain_fraction=0.5, optimizer=sgd(0.2))
    # Conjugate gradients stop at a residual of 1e-6.
    assert distance(weights(method.run(model, context).model), by_hand) < 1e-6


def test_dmm_predicts_the_gold_of_a_quadratic_loss_and_leaves_what_matches_already():
    context = replace(tiny_task(), criterion=Criterion("classification", SquaredError()))
    original, gold = (linear_model(solved(*part(context, name))) for name in ("train", "retain"))
    method = DatamodelMatching(damping=0.0, max_steps=200)
    place, targets = method._predicted(original, context.seen_by(method), torch.arange(24))
    assert torch.allclose(targets[place[:24]], gold(context.x.values[:24]).detach(), atol=1e-5)

    class Retrained:
        def retrained(self, partition):
            assert partition == "retain"
            return gold, 0.0

    oracle = DatamodelMatching(targets="gold", epochs=2, optimizer=sgd(0.5))
    context = replace(context, models=Retrained())
    assert distance(weights(oracle.run(gold, context).model), weights(gold)) < 1e-12
    assert distance(weights(oracle.run(original, context).model), weights(gold)) < distance(weights(original), weights(gold))


def test_dmm_may_train_retain_samples_by_their_labels_and_draw_them_anew():
    context, original, gold = tiny_task(), net(), copy.deepcopy(net())
    with torch.no_grad():
        for parameter in gold.parameters():
            parameter.mul_(0.5)
    context = replace(context, models=SimpleNamespace(retrained=lambda partition: (gold, 0.0)))
    forget, retain = context.partitions["forget"], context.partitions["retain"]
    method = DatamodelMatching(targets="gold", kept="labels", subset="anew", retain_fraction=0.5, epochs=3, optimizer=sgd(0.2))
    by_hand, generator = start(original), context.streams.torch("subset")
    steps = SgdByHand(by_hand, 0.2)
    for _ in range(3):
        some = torch.cat([forget, retain[torch.randperm(18, generator=generator)[:9]]])
        for chosen in some[torch.randperm(15, generator=generator)].split(context.batch_size):
            x, y = context.x.values[chosen], context.y[chosen]
            logits, is_gone = logits_by_hand(by_hand, x), torch.isin(chosen, forget)
            away = (logits - gold(x).detach()).square().mean(1)
            steps.step(torch.where(is_gone, away, cross_entropy(logits, y, reduction="none")).mean())
    assert distance(weights(method.run(original, context).model), by_hand) < 1e-12


def test_logits_move_the_same_in_forward_and_in_reverse_mode():
    lstm = nn.LSTM(2, 3, batch_first=True).double()  # has no forward mode
    x = torch.randn(5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = lstm

        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    model = Last().eval()
    direction = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    logits, moved = moved_logits(model, x, direction)
    steps = []
    for sign in (1, -1):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(sign * 1e-6)
            steps.append(other(x))
    assert torch.allclose(moved, (steps[0] - steps[1]) / 2e-6, atol=1e-8)
    assert torch.allclose(logits, model(x).detach())


def test_hooks_of_others_do_not_choose_how_curvature_is_computed():
    def read(module, inputs, output):
        output.detach().numpy()  # raises for the tensors of a transform

    with isolated(0):
        network, x, y = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(60, 6), torch.arange(60) % 3

    def digest():
        return model_digest(erasure.unlearn(network, "InfluenceUnlearning", forget=(x[:9], y[:9]), retain=(x[9:], y[9:])))

    expected = digest()
    seen = []
    handles = [register_module_forward_hook(read), register_module_forward_hook(lambda *call: seen.append(call))]
    try:
        assert digest() == expected
        n_seen = len(seen)
        network(x)
        assert len(seen) > n_seen > 0  # they listen before and after
    finally:
        for handle in handles:
            handle.remove()
