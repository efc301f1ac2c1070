"""Methods whose step is made of a forget and a retain gradient, or kept off what layers read: SFRon, MUNBa, UAM, OrthoGrad and PGU."""

import dataclasses
import math

import pytest
import torch
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    conv_net,
    distance,
    logits_by_hand,
    loss_by_hand,
    memorised,
    norm_net,
    picture_task,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import RequirementNotMet
from erasure.functional.projections import orthogonal_part
from erasure.training.calls import Schedule
from erasure.training.layer_inputs import input_grams, weighted_layers
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.munba import MUNBa, nash_weights
from erasure.unlearners.ortho_grad import OrthoGrad
from erasure.unlearners.projected_gradient import ProjectedGradientUnlearning, kept_basis
from erasure.unlearners.sfron import SFRon, importance_mask, sample_weights
from erasure.unlearners.uam import UAM


def gradients(parameters, task, ids, y=None):
    return torch.autograd.grad(loss_by_hand(parameters, task, ids, y), parameters)


def flat(parts):
    return torch.cat([part.flatten() for part in parts])


def like(vector, parts):
    return [piece.view_as(part) for piece, part in zip(vector.split([p.numel() for p in parts]), parts, strict=True)]


def clipped(parts, limit):
    return [part * min(1.0, limit / (float(flat(parts).norm()) + 1e-6)) for part in parts]


# SFRon


def importances_by_hand(parameters, task, role):
    squares = [[g**2 for g in gradients(parameters, task, ids)] for ids in task.partitions[role].split(4)]
    return [sum(each) / len(squares) for each in zip(*squares, strict=True)]


def test_sfron_climbs_every_few_steps_and_repairs_at_each():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    forget_f, retain_f = (importances_by_hand(by_hand, context, role) for role in ("forget", "retain"))
    mask = [((f + 1e-15) / (r + 1e-15) >= 0.8).double() for f, r in zip(forget_f, retain_f, strict=True)]
    assert 0 < flat(mask).mean() < 1
    steps, total = SgdByHand(by_hand, 0.0, momentum=0.9, weight_decay=0.01), 13
    forget, retain = Shuffles(context, "forget"), Shuffles(context, "retain")
    ascents = iter(forget.cycled(math.ceil(total / 3)))
    for t, kept in enumerate(retain.cycled(total)):
        steps.lr = 0.05 * (1 + math.cos(math.pi * t / total)) / 2
        if t % 3 == 0:
            ids = next(ascents)
            logits = logits_by_hand(by_hand, context.x.values[ids])
            losses = logits.logsumexp(1) - logits[torch.arange(len(ids)), context.y[ids]]
            w = [1 / (float(loss.detach()) ** 0.5 + 1e-15) for loss in losses]
            strength = 2.0 * (1 + math.cos(math.pi * t / total)) / 2
            value = -strength * sum(a / sum(w) * loss for a, loss in zip(w, losses, strict=True))
            masked = [g * m for g, m in zip(torch.autograd.grad(value, by_hand), mask, strict=True)]
            steps.step_along(clipped(masked, 0.5))
        steps.step_along(gradients(by_hand, context, kept))
    method = SFRon(
        steps=total, forget_every=3, alpha=2.0, ratio=0.8, ascent_norm=0.5, optimizer=sgd(0.05, momentum=0.9, weight_decay=0.01)
    )
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_sfron_without_ascent_is_fine_tuning():
    model, context = tiny_net(), tiny_task()
    plain = SFRon(steps=10, alpha=0.0, optimizer=sgd(), schedule=None)  # 18 retain samples are 5 batches
    tuned = unlearned(Finetuning(epochs=2, optimizer=sgd()), model, context)
    assert distance(weights(unlearned(plain, model, context)), weights(tuned)) < 1e-12
    assert same_model(model, unlearned(SFRon(steps=0), model, context))
    empty = tiny_task(0)
    norm = norm_net()
    tuned = unlearned(Finetuning(epochs=2, optimizer=sgd()), norm, empty)
    assert same_model(tuned, unlearned(plain.replace(alpha=5.0), norm, empty))


def test_sfron_weights_sum_to_the_batch_and_its_mask_can_be_all():
    losses = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    assert float(sample_weights(losses, 0.5).sum()) == pytest.approx(3)
    assert torch.allclose(sample_weights(losses, 0.0), torch.ones(3, dtype=torch.float64))
    assert bool(importance_mask(torch.zeros(3), torch.ones(3), 0.0).all())


# MUNBa


def test_munba_steps_along_the_bargain():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    steps, labels = SgdByHand(by_hand, 0.1, momentum=0.9), context.streams.torch("labels")
    retain, forget = Shuffles(context, "retain"), Shuffles(context, "forget")
    for _ in range(3):
        forgotten = forget.one_pass()
        for number, ids in enumerate(retain.one_pass()):
            keeping = gradients(by_hand, context, ids)
            if number >= len(forgotten):
                steps.step_along(keeping)
                continue
            drawn = torch.randint(0, 3, (len(forgotten[number]),), generator=labels)
            forgetting = gradients(by_hand, context, forgotten[number], drawn)
            r, f = flat(keeping), flat(forgetting)
            a = 1 / math.sqrt(float(r @ r + (r @ f) * r.norm() / f.norm()))
            b = a * float(r.norm() / f.norm())
            assert torch.allclose(a * r.norm(), b * f.norm())
            steps.step_along(clipped(like(a * r + b * f, keeping), 0.9))
    method = MUNBa(epochs=3, bargain_norm=0.9, optimizer=sgd(0.1, momentum=0.9))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_the_bargain_solves_its_equation_and_ignores_scales():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        g = torch.randn(2, 5, generator=generator, dtype=torch.float64)
        a = nash_weights(g @ g.T)
        assert float((g @ g.T @ a - 1 / a).abs().max()) < 1e-5
        step = a @ g
        assert bool((g @ step > 0).all())
        scaled = torch.tensor([[1e-3], [7.0]], dtype=torch.float64) * g
        assert torch.allclose(nash_weights(scaled @ scaled.T) @ scaled, step)
    fallback = torch.tensor([1.0, 0.1], dtype=torch.float64)
    for pair in ([[1.0, 0.0], [-2.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]):
        g = torch.tensor(pair, dtype=torch.float64)
        assert torch.equal(nash_weights(g @ g.T), fallback)
    orthogonal = torch.eye(2, dtype=torch.float64)  # where a division by the inner product fails
    assert torch.allclose(nash_weights(orthogonal), torch.ones(2, dtype=torch.float64))


def test_munba_uses_forget_sets_that_have_more_batches_than_the_retain_set():
    from toys import make_task

    context = tiny_task()
    turned = make_task(context.x.values, context.y, {"forget": range(6, 24), "retain": range(6)})
    assert not same_model(tiny_net(), unlearned(MUNBa(epochs=1), tiny_net(), turned))
    tuned = unlearned(Finetuning(epochs=2, optimizer=sgd()), norm_net(), tiny_task(0))
    assert same_model(tuned, unlearned(MUNBa(epochs=2, optimizer=sgd()), norm_net(), tiny_task(0)))


# UAM and ROSU


@pytest.mark.parametrize("surrogate", ["ascent", "orthogonal"])
def test_uam_takes_the_retain_gradient_up_the_forget_loss(surrogate):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    steps, t = SgdByHand(by_hand, 0.1, momentum=0.9), 0
    retain, forget = Shuffles(context, "retain"), Shuffles(context, "forget")
    for _ in range(2):
        passed = retain.one_pass()
        for kept, forgotten in zip(passed, forget.cycled(len(passed)), strict=True):
            e = flat(gradients(by_hand, context, forgotten))
            if surrogate == "orthogonal":
                r = flat(gradients(by_hand, context, kept))
                e = e - (e @ r) / (r @ r) * r
                assert abs(float(e @ r)) < 1e-12
            up = 0.4 * (1 + math.cos(math.pi * t / 10)) / 2 * e / e.norm()
            there = [(p.detach() + d).requires_grad_(True) for p, d in zip(by_hand, like(up, by_hand), strict=True)]
            steps.step_along(gradients(there, context, kept))
            t += 1
    assert t == 10
    method = UAM(epochs=2, rho=0.4, surrogate=surrogate, optimizer=sgd(0.1, momentum=0.9))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_uam_without_a_step_up_is_fine_tuning_and_needs_a_forget_set():
    model, context = tiny_net(), tiny_task()
    tuned = unlearned(Finetuning(epochs=2, optimizer=sgd()), model, context)
    assert same_model(tuned, unlearned(UAM(epochs=2, rho=0.0, optimizer=sgd()), model, context))
    assert same_model(model, unlearned(UAM(), model, tiny_task(0)))


# OrthoGrad


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("per", ["model", "parameter"])
def test_ortho_grad_climbs_across_the_retain_gradients(per, weight):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    steps, retain, forget = SgdByHand(by_hand, 0.2), Shuffles(context, "retain", batch_size=3), Shuffles(context, "forget")
    for _ in range(2):
        passed = forget.one_pass()
        for forgotten, kept in zip(passed, retain.cycled(len(passed)), strict=True):
            ascent = [-g for g in gradients(by_hand, context, forgotten)]
            single = [gradients(by_hand, context, kept[i : i + 1]) for i in range(len(kept))]
            groups = [[k] for k in range(4)] if per == "parameter" else [[0, 1, 2, 3]]
            step = [None] * 4
            for group in groups:
                q, _ = torch.linalg.qr(torch.stack([flat([s[k] for k in group]) for s in single], 1))
                g = flat([ascent[k] for k in group])
                across = g - q @ (q.T @ g)
                for k, part in zip(group, like(across, [ascent[k] for k in group]), strict=True):
                    step[k] = part + weight * sum(s[k] for s in single) / len(single)
            steps.step_along(step)
    method = OrthoGrad(epochs=2, retain_batch_size=3, per=per, retain_weight=weight, optimizer=sgd(0.2))
    # The last bias has 3 entries, which 3 independent gradients span: what is left there is rounding.
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-9


def test_the_part_across_is_orthogonal_also_to_rows_that_depend_on_each_other():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    rows = torch.cat([rows, rows[:1] + rows[1:2], torch.zeros(1, 8, dtype=torch.float64)])
    vector = torch.randn(8, generator=generator, dtype=torch.float64)
    across = orthogonal_part(vector, rows)
    assert float((rows @ across).abs().max()) < 1e-13
    assert torch.allclose(across, orthogonal_part(vector, rows[:3]))
    assert torch.equal(orthogonal_part(vector, rows[:0]), vector)
    one = rows[:1]
    assert torch.allclose(orthogonal_part(vector, one), vector - (one[0] @ vector) / (one[0] @ one[0]) * one[0])
    assert float(orthogonal_part(vector, torch.eye(8, dtype=torch.float64)).abs().max()) < 1e-15
    # Where no row has anything, as in the padding row of an embedding, nothing is left behind by rounding.
    assert torch.allclose(orthogonal_part(vector.bfloat16(), rows[:3].bfloat16()).double(), across, atol=0.05)
    beside = torch.cat([torch.zeros(len(rows), 5), rows.float()], dim=1)
    assert orthogonal_part(torch.cat([torch.zeros(5), vector.float()]), beside)[:5].tolist() == [0.0] * 5


def test_ortho_grad_leaves_the_retain_losses_to_first_order():
    context, model = tiny_task(), tiny_net()
    ids = context.partitions["retain"]
    before = [float(loss_by_hand(start(model), context, ids[i : i + 1]).detach()) for i in range(18)]
    rises = {}
    for lr in (1e-3, 2e-3):
        moved = unlearned(OrthoGrad(epochs=1, batch_size=6, retain_batch_size=18, optimizer=sgd(lr)), model, context)
        after = [float(loss_by_hand(start(moved), context, ids[i : i + 1]).detach()) for i in range(18)]
        rises[lr] = max(abs(a - b) for a, b in zip(after, before, strict=True))
    assert rises[2e-3] / rises[1e-3] == pytest.approx(4, rel=0.05)  # nothing but the second order is left


# Projected gradients


def protected_by_hand(inputs, variance):
    """The projection on the strongest directions of the inputs, by their singular vectors."""
    _, sizes, vectors = torch.linalg.svd(inputs, full_matrices=True)
    k = int((sizes.cumsum(0) / sizes.sum() <= variance).sum()) + 1
    return vectors[:k].T @ vectors[:k], k


def test_pgu_descends_across_what_layers_read_of_the_retain_set():
    context, model = tiny_task(), tiny_net()
    by_hand, x = start(model), context.x.values
    kept = x[context.partitions["retain"]]
    hidden = (kept @ by_hand[0].T + by_hand[1]).tanh().detach()
    found = {0: protected_by_hand(kept, 0.7), 2: protected_by_hand(hidden, 0.7)}
    assert [k for _, k in found.values()] == [3, 3]  # of 4 and 6 directions: some stay free
    steps, passes = SgdByHand(by_hand, 0.3), Shuffles(context, "forget")
    for epoch in range(3):
        steps.lr = 0.3 * 0.5**epoch
        for ids in passes.one_pass():
            p = logits_by_hand(by_hand, x[ids]).softmax(1)
            true = p[torch.arange(len(ids)), context.y[ids]]
            loss = -(1 - (true - 0.05)).log().mean() + 0.2 * (p * p.log()).sum(1).mean()
            parts = torch.autograd.grad(loss, by_hand)
            steps.step_along(
                [
                    (g + 0.01 * w.detach()) @ (torch.eye(len(found[i][0])).double() - found[i][0]) if i in found else 0 * g
                    for i, (g, w) in enumerate(zip(parts, by_hand, strict=True))
                ]
            )
    method = ProjectedGradientUnlearning(
        epochs=3,
        variance=0.7,
        offset=0.05,
        weight_decay=0.01,
        max_drop=1.0,
        batch_size=4,
        optimizer=sgd(0.3),
        schedule=Schedule.of("ExponentialLR", gamma=0.5),
    )
    after = unlearned(method, model, context)
    assert distance(weights(after), by_hand) < 1e-10
    for layer, projection in ((0, found[0][0]), (2, found[2][0])):
        moved = (after[layer].weight - model[layer].weight).detach()
        assert float(moved.abs().max()) > 1e-3
        assert float((moved @ projection).abs().max()) < 1e-12
    assert same_model(model, unlearned(method.replace(max_drop=0.0, epochs=0), model, context))


def test_pgu_protects_everything_or_what_singular_values_say():
    model, context = conv_net(), picture_task()
    still = ProjectedGradientUnlearning(epochs=2, variance=1.0)
    assert distance(weights(unlearned(still, model, context)), weights(model)) < 1e-12
    reads = context.seen_by(still.replace(forget="train"))
    layers = weighted_layers(model)
    kept, whole = (input_grams(model, reads.batches(role, shuffle=False), layers) for role in ("retain", "forget"))
    gone = input_grams(model, context.seen_by(still).batches("forget", shuffle=False), layers)
    assert all(torch.allclose(whole[name] - gone[name], kept[name], rtol=0, atol=1e-10) for name in layers)
    for sizes, variance, expected in (([3.0, 2.0, 1.0], 0.0, 1), ([3.0, 2.0, 1.0], 0.5, 2), ([3.0, 2.0, 1.0], 0.9, 3)):
        assert kept_basis(torch.diag(torch.tensor(sizes) ** 2), variance).shape == (3, expected)
    with pytest.raises(RequirementNotMet, match="linear maps"):
        unlearned(still, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(25)).double(), context)


def test_pgu_stops_when_the_retain_accuracy_falls():
    learned = memorised()
    everything = {**learned.task.partitions, "forget": learned.task.partitions["retain"]}
    context = dataclasses.replace(learned.task, partitions=everything)
    wild = ProjectedGradientUnlearning(epochs=20, variance=0.3, optimizer=sgd(0.1), max_drop=0.02, schedule=None)
    stopped, free = unlearned(wild, learned.original, context), wild.replace(max_drop=1.0)
    for epochs in range(1, 21):
        model = unlearned(free.replace(epochs=epochs), learned.original, context)
        if learned.accuracy(model, "retain") < learned.accuracy(learned.original, "retain") - 0.02:
            break
    assert 1 < epochs < 20
    assert same_model(stopped, model)


# All of them


@pytest.mark.parametrize(
    "method",
    [SFRon(steps=6), MUNBa(epochs=1), UAM(epochs=1, surrogate="orthogonal"), OrthoGrad(epochs=1, retain_batch_size=4)],
    ids=lambda method: type(method).__name__,
)
def test_forget_sets_of_every_size_work(method):
    check_forget_sizes(method)
    check_whole_class(method)


def test_pgu_takes_forget_sets_of_every_size():
    method = ProjectedGradientUnlearning(epochs=1, variance=0.5)
    check_forget_sizes(method, kinds=("classification", "binary"))
    check_whole_class(method)


@pytest.mark.parametrize(
    "method",
    [
        SFRon(steps=120, alpha=5.0, batch_size=16, optimizer=sgd(0.02, momentum=0.9)),
        MUNBa(epochs=10, batch_size=16, optimizer=sgd(0.05, momentum=0.9)),
        UAM(epochs=10, rho=3.0, batch_size=16, optimizer=sgd(0.05, momentum=0.9)),
        OrthoGrad(epochs=10, batch_size=16, retain_weight=1.0, max_grad_norm=1.0, optimizer=sgd(0.1)),
        ProjectedGradientUnlearning(epochs=60, batch_size=16, variance=0.7, optimizer=sgd(0.1)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_memorised_samples_are_forgotten(method):
    memorised().check_effect(method, gap=0.8, retain_at_least=0.8)
