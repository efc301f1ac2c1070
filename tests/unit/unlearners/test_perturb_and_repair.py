"""Methods that disturb the weights and repair them: CT, MSG, CFW, PRMQ, KDE and RNI."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    conv_logits_by_hand,
    conv_net,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
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

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.training.calls import Optimizer, Schedule
from erasure.training.randomness import isolated
from erasure.training.schedules import Triangle
from erasure.unlearners.confuse_and_weaken import ConfuseAndWeaken
from erasure.unlearners.convolution_transpose import ConvolutionTranspose
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.masked_small_gradients import MaskedSmallGradients
from erasure.unlearners.prune_and_redraw import PruneAndRedraw
from erasure.unlearners.reset_and_distil import ResetAndDistil
from erasure.unlearners.reset_and_noise import ResetAndNoise

SETTINGS = {"momentum": 0.9, "weight_decay": 0.01}


def loss_by_hand(parameters, task, ids):
    return cross_entropy_by_hand(conv_logits_by_hand(parameters, task.x.values[ids]), task.y[ids])


# Convolution transpose


def test_ct_swaps_and_repairs_step_by_step():
    context, model = picture_task(), conv_net()
    by_hand = start(model)
    by_hand[0] = torch.stack([kernel.T for kernel in by_hand[0].detach()[:, 0]])[:, None].requires_grad_(True)
    steps, passes = SgdByHand(by_hand, 0.05, **SETTINGS), Shuffles(context, "retain")
    for epoch in range(3):
        steps.lr = 0.05 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for ids in passes.one_pass():
            steps.step(loss_by_hand(by_hand, context, ids))
    method = ConvolutionTranspose(epochs=3, batch_size=4, optimizer=sgd(0.05, **SETTINGS))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_ct_twice_gives_the_original_and_changes_only_kernels():
    model, context, swap = conv_net(), picture_task(), ConvolutionTranspose(epochs=0)
    once = unlearned(swap, model, context)
    assert not torch.equal(once[0].weight, model[0].weight)
    assert all(torch.equal(p, weights(model)[name]) for name, p in once.named_parameters() if name != "0.weight")
    assert same_model(model, unlearned(swap, once, context))


def test_ct_leaves_kernels_that_are_not_square_and_refuses_models_without_kernels():
    context = picture_task()
    oblong = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, (1, 3)), nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(12, 3)
    ).double()
    turned = unlearned(ConvolutionTranspose(epochs=0), oblong, context)
    assert torch.equal(turned[0].weight, oblong[0].weight.transpose(2, 3))
    assert torch.equal(turned[1].weight, oblong[1].weight)
    assert torch.equal(turned[2].weight, oblong[2].weight)
    for model in (
        nn.Sequential(nn.Flatten(), nn.Linear(25, 3)),
        nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(75, 3)),
    ):
        with pytest.raises(RequirementNotMet, match="square kernels"):
            unlearned(ConvolutionTranspose(), model.double(), context)


def test_ct_leaves_frozen_kernels_unless_all_are_frozen():
    context, model = picture_task(), conv_net()
    model[0].requires_grad_(False)
    assert torch.equal(unlearned(ConvolutionTranspose(epochs=0), model, context)[0].weight, model[0].weight)


# Masked small gradients


def small_gradients_by_hand(parameters, task, subset):
    """Which kernel weights are redrawn: the 0.3 * 18 = 5 smallest gradients of keeping minus forgetting."""
    forget = task.partitions["forget"]
    total = torch.zeros_like(parameters[0])
    for ids, sign in [(b, 1) for b in subset.split(4)] + [(b, -1) for b in forget.split(4)]:
        total += torch.autograd.grad(sign * loss_by_hand(parameters, task, ids), parameters[0])[0]
    smallest = torch.zeros(total.numel(), dtype=torch.bool)
    smallest[total.abs().flatten().argsort()[:5]] = True
    return smallest.view(total.shape)


def test_msg_redraws_and_repairs_step_by_step():
    context, model = picture_task(), conv_net()
    by_hand = start(model)
    order = torch.randperm(18, generator=context.streams.torch("subset"))
    redrawn = small_gradients_by_hand(by_hand, context, context.partitions["retain"][order[:6]])
    normal = torch.randn(by_hand[0].shape, generator=context.streams.torch("redraw"), dtype=torch.float64)
    fan_out = 2 * 3 * 3
    by_hand[0] = torch.where(redrawn, normal * math.sqrt(2 / fan_out), by_hand[0].detach()).requires_grad_(True)
    steps, passes = SgdByHand(by_hand, 0.0, **SETTINGS), Shuffles(context, "retain")
    for factor in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3):
        steps.lr = 0.06 * factor
        for ids in passes.one_pass():
            gradients = list(torch.autograd.grad(loss_by_hand(by_hand, context, ids), by_hand))
            gradients[0] = torch.where(redrawn, gradients[0], 0.1 * gradients[0])
            steps.step_along(gradients)
    method = MaskedSmallGradients(batch_size=4, optimizer=sgd(0.06, **SETTINGS))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_msg_redraws_the_share_of_each_convolution_and_nothing_else(fraction):
    model, context = conv_net(), picture_task()
    redrawn = unlearned(MaskedSmallGradients(epochs=0, fraction=fraction), model, context)
    changed = redrawn[0].weight != model[0].weight
    assert int(changed.sum()) == round(fraction * 18)
    before, after = weights(model), weights(redrawn)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "0.weight")


def test_msg_with_the_full_rate_and_nothing_redrawn_is_fine_tuning():
    model, context = conv_net(), picture_task()
    plain = {"epochs": 2, "optimizer": sgd(0.05, momentum=0.9), "batch_size": 4}
    method = MaskedSmallGradients(fraction=0.0, kept_rate=1.0, schedule=None, **plain)
    tuned = unlearned(Finetuning(**plain), model, context)
    assert distance(weights(unlearned(method, model, context)), weights(tuned)) < 1e-12


def test_msg_without_convolutions_names_the_way_out():
    context, model = tiny_task(), tiny_net()
    with pytest.raises(RequirementNotMet, match='layers="all"'):
        unlearned(MaskedSmallGradients(), model, context)
    changed = unlearned(MaskedSmallGradients(layers="all", epochs=0, fraction=0.5), model, context)
    assert int((changed[0].weight != model[0].weight).sum()) == 12
    assert torch.equal(changed[0].bias, model[0].bias)
    assert same_model(model, unlearned(MaskedSmallGradients(layers="all"), model, tiny_task(0)))


def test_the_triangle_rises_and_falls():
    for epochs, expected in ((1, [1]), (2, [1, 1]), (4, [0.5, 1, 1, 0.5]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule, rates = Schedule.of("erasure.training.schedules.Triangle").build(optimizer, epochs), []
        assert isinstance(schedule, Triangle)
        for _ in range(epochs):
            rates += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        assert rates == pytest.approx(expected)
    with pytest.raises(InvalidParameters, match="at least 1"):
        Triangle(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), epochs=0)


# Confuse, fine-tune, weaken


def uneven(task):
    """The same pictures with 10, 6 and 2 retain samples of the classes."""
    y = task.y.clone()
    y[6:24] = torch.tensor([0] * 10 + [1] * 6 + [2] * 2)
    return dataclasses.replace(task, y=y)


def test_cfw_confuses_repairs_and_weakens_step_by_step():
    task, model = uneven(picture_task()), conv_net()
    by_hand, generator = start(model), task.streams.torch("noise")

    def disturb(size):
        with torch.no_grad():
            by_hand[0] += size * torch.randn(by_hand[0].shape, generator=generator, dtype=torch.float64)

    disturb(0.6)
    shares = torch.tensor([18 / (3 * 10), 18 / (3 * 6), 18 / (3 * 2)], dtype=torch.float64)
    steps, passes = SgdByHand(by_hand, 0.0, **SETTINGS), Shuffles(task, "retain")
    for epoch, factor in enumerate((1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4)):
        steps.lr = 0.05 * factor
        if epoch == 3:
            disturb(0.005)
        for ids in passes.one_pass():
            logits, y = conv_logits_by_hand(by_hand, task.x.values[ids]), task.y[ids]
            losses = logits.logsumexp(1) - logits[torch.arange(len(ids)), y]
            steps.step((shares[y] * losses).mean())
    method = ConfuseAndWeaken(batch_size=4, optimizer=sgd(0.05, **SETTINGS))
    assert distance(weights(unlearned(method, model, task)), by_hand) < 1e-10


def test_cfw_without_noise_on_balanced_classes_is_fine_tuning():
    model, context = conv_net(), picture_task()
    plain = {"epochs": 2, "optimizer": sgd(0.05, momentum=0.9), "batch_size": 4}
    method = ConfuseAndWeaken(noise=0.0, last_noise=0.0, schedule=None, **plain)
    assert distance(weights(unlearned(method, model, context)), weights(unlearned(Finetuning(**plain), model, context))) < 1e-12
    confused = unlearned(ConfuseAndWeaken(epochs=0), model, context)
    assert 0.2 < float((confused[0].weight - model[0].weight).detach().std()) < 1.2
    assert all(torch.equal(p, weights(model)[name]) for name, p in confused.named_parameters() if name != "0.weight")
    with pytest.raises(RequirementNotMet, match="convolution"):
        unlearned(ConfuseAndWeaken(), tiny_net(), tiny_task())


# Prune, redraw, match entropies


def entropy_by_hand(logits):
    p = logits.softmax(1)
    return -(p * p.log()).sum(1)


def test_prmq_prunes_redraws_and_repairs_step_by_step():
    context, model = tiny_task(), tiny_net()
    y = context.y.clone()
    y[6:24] = torch.tensor([0] * 10 + [1] * 6 + [2] * 2)
    context = dataclasses.replace(context, y=y)
    original, by_hand = start(model), start(model)
    sizes = torch.cat([p.detach().abs().flatten() for p in by_hand])
    bound = sizes.sort().values[round(0.8 * len(sizes))]  # 51 weights and biases: 41 go
    generator, counts = context.streams.torch("redraw"), torch.tensor([10.0, 6.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        for i, p in enumerate(by_hand):
            p[p.abs() < bound] = 0.0
            if p.ndim == 2:
                drawn = (2 * torch.rand(p.shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(p.shape[1])
                by_hand[i] = torch.where(p == 0, drawn, p).requires_grad_(True)
    assert sum(int((p == 0).sum()) for p in by_hand) == int((by_hand[1] == 0).sum() + (by_hand[3] == 0).sum()) > 0
    steps, passes = SgdByHand(by_hand, 0.05, **SETTINGS), Shuffles(context, "retain")
    for ids in [*passes.one_pass(), *passes.one_pass()[:2]]:  # int(1.5 * 5) = 7 steps
        logits, share = logits_by_hand(by_hand, context.x.values[ids]), counts[y[ids]] ** -0.1
        losses = logits.logsumexp(1) - logits[torch.arange(len(ids)), y[ids]]
        gap = entropy_by_hand(logits) - entropy_by_hand(logits_by_hand(original, context.x.values[ids])).detach()
        steps.step((share * losses).sum() / share.sum() + (gap**2).mean())
    method = PruneAndRedraw(
        epochs=1, partial_epoch=0.5, amount=0.8, batch_size=4, optimizer=sgd(0.05, **SETTINGS), round_to_half=False
    )
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10
    rounded = unlearned(method.replace(round_to_half=True), model, context)
    assert distance(weights(rounded), [p.detach().half().double() for p in by_hand]) < 1e-12


def test_prmq_rounds_nothing_that_is_frozen():
    model = norm_net()
    model[0].requires_grad_(False)
    made = unlearned(PruneAndRedraw(epochs=1), model, tiny_task())
    assert [name for name, value in made[0].state_dict().items() if not torch.equal(value, model[0].state_dict()[name])] == []
    assert torch.equal(made[2].weight, made[2].weight.half().float())


def test_prmq_prunes_the_share_and_keeps_the_large_weights():
    model, context = conv_net(), picture_task()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    method = PruneAndRedraw(epochs=0, partial_epoch=0.0, round_to_half=False)
    for amount in (0.0, 0.25, 1.0):
        after = torch.cat([p.flatten() for p in weights(unlearned(method.replace(amount=amount), model, context)).values()])
        assert int((after != before).sum()) == round(amount * len(before))
        kept = before[after == before].abs()
        assert not len(kept) or float(kept.min()) >= float(
            before[after != before].abs().amax(0, keepdim=True).max() if amount else 0
        )


# Reset and distil


def reset_by_hand(layer, task):
    fresh = copy.deepcopy(layer)
    with isolated(task.streams.child("reset").seed):
        fresh.reset_parameters()
    return [fresh.weight.detach(), fresh.bias.detach()]


def test_kde_resets_and_distils_step_by_step():
    context, model = tiny_task(), tiny_net()
    original, by_hand = start(model), start(model)
    by_hand[2:] = [p.requires_grad_(True) for p in reset_by_hand(model[2], context)]
    x, temperature = context.x.values, 3.0

    def divergence(ids):
        p, q = ((logits_by_hand(w, x[ids]) / temperature).softmax(1) for w in (original, by_hand))
        return (p * (p.log() - q.log())).sum(1).mean()

    steps, passes = SgdByHand(by_hand, 0.2, **SETTINGS), Shuffles(context, "validation")
    for _ in range(2):
        for ids in passes.one_pass():
            steps.step(divergence(ids))
    steps, passes = SgdByHand(by_hand, 0.1, **SETTINGS), Shuffles(context, "retain")
    for epoch in range(3):
        steps.lr = 0.1 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for ids in passes.one_pass():
            logits = logits_by_hand(by_hand, x[ids])
            soft = (logits_by_hand(original, x[ids]) / temperature).softmax(1).detach()
            soft_loss = -(soft * (logits / temperature).log_softmax(1)).sum(1).mean()  # as the code has it
            steps.step(cross_entropy_by_hand(logits, context.y[ids]) + divergence(ids) + soft_loss)
    method = ResetAndDistil(
        epochs=3,
        warm_up_epochs=2,
        temperature=temperature,
        batch_size=4,
        optimizer=sgd(0.1, **SETTINGS),
        warm_up_optimizer=sgd(0.2, **SETTINGS),
    )
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_kde_resets_the_first_convolution_and_the_last_layer_only():
    with isolated(0):
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(18, 4), nn.Linear(4, 3)
        ).double()
    pictures = picture_task()
    context = dataclasses.replace(pictures, partitions={**pictures.partitions, "validation": torch.arange(3)})
    reset = unlearned(ResetAndDistil(epochs=0, warm_up_epochs=0), model, context)
    changed = {name for name, p in reset.named_parameters() if not torch.equal(p, weights(model)[name])}
    assert changed == {"0.weight", "0.bias", "5.weight", "5.bias"}


# Reset and noise


def test_rni_draws_disturbs_and_trains_step_by_step():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    by_hand[2:] = [p.requires_grad_(True) for p in reset_by_hand(model[2], context)]
    draws, noises, passes = context.streams.torch("draws"), context.streams.torch("noise"), Shuffles(context, "retain")
    before, disturbed_ever = set(), 0
    for epoch in range(5):
        chosen, rate = [0, 1, 2, 3], 0.1 * 5.0
        if epoch < 4:
            rate, chosen = 0.1, torch.randperm(4, generator=draws)[:2].tolist()
            if epoch:
                for i in [chosen[j] for j in torch.randperm(2, generator=draws)[:1].tolist()]:  # int(0.7 * 2)
                    if i not in before:
                        disturbed_ever += 1
                        with torch.no_grad():
                            by_hand[i] += 0.3 * torch.randn(by_hand[i].shape, generator=noises, dtype=torch.float64)
            before |= set(chosen)
        learning = [by_hand[i] for i in chosen]
        steps = SgdByHand(learning, rate, **SETTINGS)  # momentum starts from 0
        for ids in passes.one_pass():
            logits = logits_by_hand(by_hand, context.x.values[ids])
            steps.step(cross_entropy_by_hand(logits, context.y[ids]))
    assert disturbed_ever
    method = ResetAndNoise(epochs=4, tensors=2, noise=0.3, repair_factors=(5.0,), batch_size=4, optimizer=sgd(0.1, **SETTINGS))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_rni_always_trains_normalisation_and_never_frozen_tensors():
    model, context = norm_net(), tiny_task()
    model[0][0].requires_grad_(False)
    tuned = unlearned(ResetAndNoise(epochs=1, tensors=1, repair_factors=()), model, context)
    changed = {name for name, p in tuned.named_parameters() if not torch.equal(p, weights(model)[name])}
    assert {"0.1.weight", "0.1.bias", "1.1.weight", "1.1.bias", "2.weight", "2.bias"} <= changed
    assert not changed & {"0.0.weight", "0.0.bias"}
    assert all(p.requires_grad == (not name.startswith("0.0")) for name, p in tuned.named_parameters())


# Effects


def picture_memory():
    """A convolutional network that has learned the wrong labels of 12 pictures by heart."""
    learned = memorised()
    x = learned.task.x.values.new_zeros(len(learned.task.y), 1, 4, 4)
    x[:, 0, :3] = learned.task.x.values.reshape(-1, 3, 4)
    return learned, x


@pytest.mark.parametrize(
    "method",
    [
        ConvolutionTranspose(epochs=10, batch_size=16, optimizer=Optimizer.of("Adam", lr=0.003)),
        MaskedSmallGradients(epochs=10, batch_size=16, optimizer=Optimizer.of("Adam", lr=0.003), kept_rate=1.0, fraction=0.5),
        ConfuseAndWeaken(epochs=10, batch_size=16, optimizer=Optimizer.of("Adam", lr=0.003), noise=1.0),
        PruneAndRedraw(epochs=6, batch_size=16, optimizer=Optimizer.of("Adam", lr=0.003)),
        ResetAndDistil(
            epochs=6, batch_size=16, optimizer=Optimizer.of("Adam", lr=0.003), warm_up_optimizer=Optimizer.of("Adam", lr=0.003)
        ),
        ResetAndNoise(epochs=5, batch_size=16, noise=0.3, optimizer=Optimizer.of("Adam", lr=0.002)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_memorised_pictures_are_forgotten(method):
    from erasure.training.batches import TensorColumn

    learned, x = picture_memory()
    task = dataclasses.replace(learned.task, x=TensorColumn(x))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3))
    original, gold = copy.deepcopy(model), copy.deepcopy(model)
    for network, ids in ((original, range(108)), (gold, range(12, 108))):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[list(ids)]), task.y[list(ids)]).backward()
            optimizer.step()
    type(learned)(original.eval(), gold.eval(), task).check_effect(method, gap=0.7, retain_at_least=0.8)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(MaskedSmallGradients(epochs=1, layers="all"))
    check_forget_sizes(ResetAndNoise(epochs=2, repair_factors=(1.0,)))
    check_forget_sizes(ResetAndDistil(epochs=1, warm_up_epochs=1))
    check_forget_sizes(PruneAndRedraw(epochs=1), kinds=("classification", "binary"))
