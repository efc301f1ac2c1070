"""Methods on importances and curvature: identities, golden results by plain formulas, and effects."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import make_task, norm_net, tiny_net, tiny_task

from erasure.errors import Diverged, InvalidParameters, RequirementNotMet
from erasure.functional.solvers import conjugate_gradient
from erasure.training.calls import Criterion, Optimizer
from erasure.unlearners.datamodel_matching import DatamodelMatching
from erasure.unlearners.fisher_forgetting import FisherForgetting
from erasure.unlearners.influence_unlearning import InfluenceUnlearning, inverse_fisher_product
from erasure.unlearners.lfssd import LFSSD
from erasure.unlearners.ntk_forgetting import NTKForgetting
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening as SSD
from erasure.unlearners.win_u import WINU


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def loss_gradients(model, x, y):
    """Gradient of each sample's cross-entropy by a loop over single samples: (n, P)."""
    rows = []
    for i in range(len(x)):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def part(task, name):
    ids = task.partitions[name]
    return task.x.values[ids], task.y[ids]


def net():
    return tiny_net().eval()


# Selective Synaptic Dampening


def test_ssd_is_the_published_formula_with_importances_of_single_samples():
    context, model = tiny_task(), net()
    train = loss_gradients(model, *part(context, "train")).square().mean(0)
    forget = loss_gradients(model, *part(context, "forget")).square().mean(0)
    alpha, strength = 1.5, 0.7
    expected = torch.where(forget > alpha * train, (strength * train / forget).clamp(max=1) * flat(model), flat(model))
    found = flat(SSD(selection_weighting=alpha, dampening_constant=strength).run(model, context).model)
    assert torch.allclose(found, expected, atol=1e-12)
    assert not torch.equal(found, flat(model))


def test_ssd_per_batch_is_the_authors_formula():
    context, model = tiny_task(n_forget=6), net()

    def importance(name):
        x, y = part(context, name)
        squares = [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(nn.functional.cross_entropy(model(a), b), list(model.parameters()))]
            )
            ** 2
            for a, b in zip(x.split(4), y.split(4), strict=True)
        ]
        return torch.stack(squares).mean(0)

    forget, train = importance("forget"), importance("train")
    expected = torch.where(forget > 2 * train, (train / forget).clamp(max=1) * flat(model), flat(model))
    assert torch.allclose(flat(SSD(selection_weighting=2.0, importance="batch").run(model, context).model), expected, atol=1e-12)


@pytest.mark.parametrize("cls", [SSD, LFSSD])
@pytest.mark.parametrize(
    "parameters",
    [{"selection_weighting": float("inf")}, {"selection_weighting": 1.0, "dampening_constant": 1e12}],
    ids=["nothing selected", "nothing dampened"],
)
def test_dampening_has_its_identities(cls, parameters):
    context, model = tiny_task(), net()
    assert torch.equal(flat(cls(**parameters).run(model, context).model), flat(model))


@pytest.mark.parametrize("cls", [SSD, LFSSD])
def test_forgetting_everything_selects_nothing(cls):
    context, model = tiny_task(), net()
    assert torch.equal(flat(cls(selection_weighting=1.0, forget="train").run(model, context).model), flat(model))


@pytest.mark.parametrize("method", [SSD(selection_weighting=1.2), LFSSD(selection_weighting=1.2), FisherForgetting(alpha=1e-3)])
def test_frozen_weights_are_left_alone_unless_all_are(method):
    context, model = tiny_task(), net()
    everything = method.run(model, context).model
    first, *others = dict(model.named_parameters())
    model.get_parameter(first).requires_grad_(False)
    some = method.run(model, context).model
    assert torch.equal(some.get_parameter(first), model.get_parameter(first))
    assert not torch.equal(everything.get_parameter(first), model.get_parameter(first))
    assert all(torch.allclose(some.get_parameter(name), everything.get_parameter(name), atol=1e-12) for name in others)
    assert torch.equal(flat(method.run(model.requires_grad_(False), context).model), flat(everything))


@pytest.mark.parametrize("cls", [SSD, LFSSD])
@pytest.mark.parametrize("importance", ["sample", "batch"])
def test_dampening_never_grows_a_weight_or_turns_its_sign(cls, importance):
    context, model = tiny_task(), norm_net().eval()
    alpha, strength = 1.2, 0.9
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    unlearned = cls(selection_weighting=alpha, dampening_constant=strength, importance=importance).run(model, context).model
    before, after = flat(model), flat(unlearned)
    changed = before != after
    assert changed.any()
    assert (after.abs() <= before.abs()).all()
    assert (after * before >= 0).all()
    assert ((after / before)[changed] < strength / alpha + 1e-12).all()
    assert all(torch.equal(b, buffers[name]) for name, b in unlearned.named_buffers())


def test_lfssd_reads_no_labels():
    context, model = tiny_task(), net()
    other = make_task(context.x.values, (context.y + 1) % 3, {name: ids.tolist() for name, ids in context.partitions.items()})
    for importance in ("sample", "batch"):
        method = LFSSD(selection_weighting=1.1, importance=importance)
        assert torch.equal(flat(method.run(model, context).model), flat(method.run(model, other).model))


def test_lfssd_per_batch_is_the_published_importance():
    context, model = tiny_task(), net()

    def importance(name):
        x, _ = part(context, name)
        each = [torch.autograd.grad(model(a).square().sum(1).mean(), list(model.parameters())) for a in x.split(4)]
        return torch.stack([torch.cat([g.flatten() for g in gradients]).abs() for gradients in each]).mean(0)

    forget, train = importance("forget"), importance("train")
    expected = torch.where(forget > 1.1 * train, (train / forget).clamp(max=1) * flat(model), flat(model))
    found = flat(LFSSD(selection_weighting=1.1, importance="batch").run(model, context).model)
    assert torch.allclose(found, expected, atol=1e-12)
    assert not torch.equal(found, flat(model))


# Fisher Forgetting


def fisher_of(model, x):
    total = torch.zeros(len(flat(model)), dtype=torch.float64)
    for row in x:
        probabilities = model(row[None]).softmax(1)[0].detach()
        for y, p in enumerate(probabilities):
            loss = nn.functional.cross_entropy(model(row[None]), torch.tensor([y]))
            total += p * torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]) ** 2
    return total / len(x)


def test_fisher_noise_has_the_variance_of_the_true_fisher_information():
    context, model = tiny_task(), net()
    alpha, fisher = 1e-4, fisher_of(model, part(context, "retain")[0])
    found = FisherForgetting(alpha=alpha, class_rule="never").run(model, context).model
    generator, start = context.generator("noise"), 0
    for (name, before), after in zip(model.named_parameters(), found.parameters(), strict=True):
        information = fisher[start : start + before.numel()].reshape(before.shape)
        start += before.numel()
        is_classifier = name.startswith("2.")
        variance = alpha * (1 / (information + 1e-8)).clamp(max=1e2 if is_classifier else 1e3)
        if before.ndim > 1:
            variance = variance.mean(1, keepdim=True).expand_as(before)
        if is_classifier or before.ndim == 1:
            variance = variance * 10
        noise = torch.randn(before.shape, generator=generator, dtype=torch.float64)
        assert torch.allclose(after, before + variance.sqrt() * noise, atol=1e-10)


def test_fisher_with_alpha_zero_is_the_identity_and_the_noise_scales_with_its_root():
    context, model = tiny_task(), net()
    assert torch.equal(flat(FisherForgetting(alpha=0.0).run(model, context).model), flat(model))
    small = flat(FisherForgetting(alpha=1e-6).run(model, context).model) - flat(model)
    large = flat(FisherForgetting(alpha=4e-6).run(model, context).model) - flat(model)
    assert torch.allclose(large, 2 * small, rtol=1e-6, atol=1e-12)


def test_fisher_noise_does_not_depend_on_the_forget_set_and_has_mean_zero():
    model = net()
    tasks = [tiny_task(), tiny_task(n_forget=3)]
    first, second = (flat(FisherForgetting(alpha=1e-4).run(model, context).model) for context in tasks)
    assert torch.equal(first, second)
    draws = torch.stack([flat(FisherForgetting(alpha=1e-4).run(model, tiny_task(seed=seed)).model) for seed in range(40)])
    z = (draws.mean(0) - flat(model)) / (draws.std(0) / 40**0.5)
    assert z.abs().max() < 4.5


def test_fisher_resets_the_rows_of_forgotten_classes_only():
    context, model = tiny_task(), net()
    zeros = torch.nonzero(context.y[:24] == 0).flatten()
    others = torch.nonzero(context.y[:24] != 0).flatten()
    context = make_task(context.x.values, context.y, {"forget": zeros.tolist(), "retain": others.tolist(), "train": range(24)})
    unlearned = FisherForgetting(alpha=0.0).run(model, context).model
    assert unlearned[2].weight[0].abs().max() < 5 * 1e-3**0.5
    assert torch.equal(unlearned[2].weight[1:], model[2].weight[1:])
    assert torch.equal(unlearned[0].weight, model[0].weight)
    assert torch.equal(flat(FisherForgetting(alpha=0.0, class_rule="never").run(model, context).model), flat(model))


def test_fisher_draws_its_samples_at_random_from_its_own_stream():
    model = net()
    same = [flat(FisherForgetting(alpha=1e-4, max_samples=5).run(model, tiny_task()).model) for _ in range(2)]
    assert torch.equal(*same)
    everything = flat(FisherForgetting(alpha=1e-4).run(model, tiny_task()).model)
    assert not torch.equal(same[0], everything)


# Influence unlearning


class SquaredError(nn.Module):
    """Half the squared distance to one-hot labels: quadratic in the weights of a linear model."""

    reduction = "mean"

    def forward(self, logits, y):
        return 0.5 * (logits - nn.functional.one_hot(y, logits.shape[1])).square().sum(1).mean()


def solved(x, y):
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    return torch.linalg.lstsq(design, nn.functional.one_hot(y, 3).to(x.dtype)).solution


def linear_model(solution):
    model = nn.Linear(4, 3).double()
    with torch.no_grad():
        model.weight.copy_(solution[:-1].T)
        model.bias.copy_(solution[-1])
    return model.eval()


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_one_newton_step_is_exact_for_a_quadratic_loss(curvature):
    context = replace(tiny_task(), criterion=Criterion("classification", SquaredError()))
    original = linear_model(solved(*part(context, "train")))
    gold = linear_model(solved(*part(context, "retain")))
    method = InfluenceUnlearning(curvature=curvature, damping=0.0, max_steps=200, tolerance=1e-12)
    unlearned = method.run(original, context).model
    assert not torch.allclose(flat(original), flat(gold), atol=1e-3)
    assert torch.allclose(flat(unlearned), flat(gold), atol=1e-8)


def test_the_direction_solves_the_damped_gauss_newton_system():
    context, model = tiny_task(), net()
    x, _ = part(context, "retain")
    gradients = {name: loss_gradients(model, *part(context, name)) for name in ("forget", "retain")}
    v = gradients["forget"].sum(0) / 24 - gradients["retain"].sum(0) * 6 / (24 * 18)
    curvature = torch.zeros(len(v), len(v), dtype=torch.float64)
    for row in x:
        jacobian = torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(model(row[None])[0, k], list(model.parameters()))])
                for k in range(3)
            ]
        )
        p = model(row[None]).softmax(1)[0].detach()
        curvature += jacobian.T @ (p.diag() - p[:, None] * p[None]) @ jacobian / len(x)
    expected = 0.5 * torch.linalg.solve(curvature + 0.1 * torch.eye(len(v), dtype=torch.float64), v)
    method = InfluenceUnlearning(damping=0.1, alpha=0.5, max_steps=300, tolerance=1e-13)
    assert torch.allclose(flat(method.run(model, context).model) - flat(model), expected, atol=1e-10)


def test_woodfisher_equals_the_dense_inverse():
    context, model = tiny_task(), net()
    gradients = {name: loss_gradients(model, *part(context, name)) for name in ("forget", "retain")}
    v = gradients["forget"].sum(0) / 24 - gradients["retain"].sum(0) * 6 / (24 * 18)
    rows = gradients["retain"]
    dense = 0.2 * torch.eye(len(v), dtype=torch.float64) + rows.T @ rows / len(rows)
    unlearned = InfluenceUnlearning(solver="woodfisher", damping=0.2).run(model, context).model
    assert torch.allclose(flat(unlearned) - flat(model), torch.linalg.solve(dense, v), atol=1e-10)


def test_woodbury_equals_the_recursion_with_every_vector_kept():
    generator = torch.Generator().manual_seed(0)
    rows, v, damping = torch.randn(7, 12, generator=generator).double(), torch.randn(12, generator=generator).double(), 0.3
    inverse = torch.eye(12, dtype=torch.float64) / damping
    for g in rows:
        u = inverse @ g
        inverse = inverse - torch.outer(u, u) / (len(rows) + g @ u)
    assert torch.allclose(inverse_fisher_product(rows, v, damping), inverse @ v, atol=1e-12)


def test_influence_identities():
    context, model = tiny_task(), net()
    assert torch.equal(flat(InfluenceUnlearning(alpha=0.0).run(model, context).model), flat(model))
    assert torch.equal(flat(InfluenceUnlearning().run(model, tiny_task(n_forget=0)).model), flat(model))
    with pytest.raises(InvalidParameters, match="damping"):
        InfluenceUnlearning(solver="woodfisher", damping=0.0)


def test_conjugate_gradients_refuse_an_indefinite_matrix():
    with pytest.raises(Diverged, match="not positive"):
        conjugate_gradient(lambda x: -x, torch.ones(3), max_steps=5, tolerance=1e-6)


@pytest.mark.parametrize("product", [float("inf"), float("nan")])
def test_conjugate_gradients_refuse_products_that_are_not_finite(product):
    with pytest.raises(Diverged, match="along some direction is not finite"):
        conjugate_gradient(lambda x: product * x, torch.ones(3), max_steps=1, tolerance=1e-6)


# NTK forgetting


def test_ntk_is_the_difference_of_two_ridge_regressions():
    context, model = tiny_task(), net()

    def ridge(name, decay):
        x, y = part(context, name)
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(model(r[None])[0, k], list(model.parameters()))])
            for r in x
            for k in range(3)
        ]
        jacobian = torch.stack(rows)
        residual = (model(x) - nn.functional.one_hot(y, 3)).detach().flatten()
        normal = jacobian.T @ jacobian + len(x) * decay * torch.eye(jacobian.shape[1], dtype=torch.float64)
        return -torch.linalg.solve(normal, jacobian.T @ residual)

    expected = flat(model) + 0.7 * (ridge("retain", 0.05) - ridge("train", 0.05))
    found = flat(NTKForgetting(weight_decay=0.05, scale=0.7).run(model, context).model)
    assert torch.allclose(found, expected, atol=1e-9)


def test_ntk_refuses_what_is_too_large_and_names_the_limit():
    with pytest.raises(RequirementNotMet, match="max_samples=10"):
        NTKForgetting(max_samples=10).run(net(), tiny_task())


def test_ntk_identities():
    context, model = tiny_task(), net()
    assert torch.equal(flat(NTKForgetting(scale=0.0).run(model, context).model), flat(model))
    assert torch.equal(flat(NTKForgetting().run(model, tiny_task(n_forget=0)).model), flat(model))


# Effects


def memorised(loss):
    """A network that has learnt six wrong labels, and one that never saw them."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    truth = (x[:, 0] > 0).long() + (x[:, 1] > 0.8).long()
    y = truth.clone()
    y[:6] = (truth[:6] + 1) % 3
    context = make_task(x, y, {"forget": range(6), "retain": range(6, 80), "train": range(80)})

    def fitted(ids):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 3)).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            loss(model(x[ids]), y[ids]).backward()
            optimizer.step()
        return model.eval()

    return context, fitted(range(80)), fitted(range(6, 80))


@pytest.mark.parametrize(
    "method",
    [
        SSD(selection_weighting=5.0),
        LFSSD(selection_weighting=1.5),
        FisherForgetting(alpha=3e-3),
        InfluenceUnlearning(damping=0.01),
        InfluenceUnlearning(solver="woodfisher", damping=0.1),
        NTKForgetting(weight_decay=0.01),
        WINU(damping=0.003),
        DatamodelMatching(epochs=10, max_steps=10, optimizer=Optimizer.of("Adam", lr=0.005)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_memorised_samples_move_towards_the_retrained_model(method):
    # The linearised network of NTK forgetting is fitted to one-hot targets, so its original must be too.
    loss = SquaredError() if isinstance(method, NTKForgetting) else nn.CrossEntropyLoss()
    with torch.random.fork_rng():
        task, original, gold = memorised(loss)
    x, y = part(task, "forget")
    before = copy.deepcopy(original)
    unlearned = method.run(original, task).model
    assert torch.equal(flat(before), flat(original))
    losses = [float(loss(model(x), y).detach()) for model in (original, unlearned, gold)]
    assert losses[1] > 1.2 * losses[0]
    assert abs(losses[1] - losses[2]) < abs(losses[0] - losses[2])
