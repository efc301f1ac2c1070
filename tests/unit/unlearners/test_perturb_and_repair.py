"""Methods that disturb the weights and repair them: CT and MSG."""

import copy
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
    memorised,
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
from erasure.training.schedules import Triangle
from erasure.unlearners.convolution_transpose import ConvolutionTranspose
from erasure.unlearners.masked_small_gradients import MaskedSmallGradients

SETTINGS = {"momentum": 0.9, "weight_decay": 0.01}


def loss_by_hand(parameters, task, ids):
    return cross_entropy_by_hand(conv_logits_by_hand(parameters, task.x.values[ids]), task.y[ids])


# Convolution transpose


def test_ct_swaps_and_repairs_step_by_step():
    task, model = picture_task(), conv_net()
    by_hand = start(model)
    by_hand[0] = torch.stack([kernel.T for kernel in by_hand[0].detach()[:, 0]])[:, None].requires_grad_(True)
    steps, passes = SgdByHand(by_hand, 0.05, **SETTINGS), Shuffles(task, "retain")
    for epoch in range(3):
        steps.lr = 0.05 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for ids in passes.one_pass():
            steps.step(loss_by_hand(by_hand, task, ids))
    method = ConvolutionTranspose(epochs=3, batch_size=4, optimizer=sgd(0.05, **SETTINGS))
    assert distance(weights(unlearned(method, model, task)), by_hand) < 1e-10


def test_ct_twice_gives_the_original_and_changes_only_kernels():
    model, task, swap = conv_net(), picture_task(), ConvolutionTranspose(epochs=0)
    once = unlearned(swap, model, task)
    assert not torch.equal(once[0].weight, model[0].weight)
    assert all(torch.equal(p, weights(model)[name]) for name, p in once.named_parameters() if name != "0.weight")
    assert same_model(model, unlearned(swap, once, task))


def test_ct_leaves_kernels_that_are_not_square_and_refuses_models_without_kernels():
    task = picture_task()
    oblong = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, (1, 3)), nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(12, 3)
    ).double()
    turned = unlearned(ConvolutionTranspose(epochs=0), oblong, task)
    assert torch.equal(turned[0].weight, oblong[0].weight.transpose(2, 3))
    assert torch.equal(turned[1].weight, oblong[1].weight)
    assert torch.equal(turned[2].weight, oblong[2].weight)
    for model in (
        nn.Sequential(nn.Flatten(), nn.Linear(25, 3)),
        nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(75, 3)),
    ):
        with pytest.raises(RequirementNotMet, match="square kernels"):
            unlearned(ConvolutionTranspose(), model.double(), task)


def test_ct_leaves_frozen_kernels_unless_all_are_frozen():
    task, model = picture_task(), conv_net()
    model[0].requires_grad_(False)
    assert torch.equal(unlearned(ConvolutionTranspose(epochs=0), model, task)[0].weight, model[0].weight)


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
    task, model = picture_task(), conv_net()
    by_hand = start(model)
    order = torch.randperm(18, generator=task.streams.torch("subset"))
    redrawn = small_gradients_by_hand(by_hand, task, task.partitions["retain"][order[:6]])
    normal = torch.randn(by_hand[0].shape, generator=task.streams.torch("redraw"), dtype=torch.float64)
    fan_out = 2 * 3 * 3
    by_hand[0] = torch.where(redrawn, normal * math.sqrt(2 / fan_out), by_hand[0].detach()).requires_grad_(True)
    steps, passes = SgdByHand(by_hand, 0.0, **SETTINGS), Shuffles(task, "retain")
    for factor in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3):
        steps.lr = 0.06 * factor
        for ids in passes.one_pass():
            gradients = list(torch.autograd.grad(loss_by_hand(by_hand, task, ids), by_hand))
            gradients[0] = torch.where(redrawn, gradients[0], 0.1 * gradients[0])
            steps.step_along(gradients)
    method = MaskedSmallGradients(batch_size=4, optimizer=sgd(0.06, **SETTINGS))
    assert distance(weights(unlearned(method, model, task)), by_hand) < 1e-10


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_msg_redraws_the_share_of_each_convolution_and_nothing_else(fraction):
    model, task = conv_net(), picture_task()
    redrawn = unlearned(MaskedSmallGradients(epochs=0, fraction=fraction), model, task)
    changed = redrawn[0].weight != model[0].weight
    assert int(changed.sum()) == round(fraction * 18)
    before, after = weights(model), weights(redrawn)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "0.weight")


def test_msg_with_the_full_rate_and_nothing_redrawn_is_fine_tuning():
    from erasure.unlearners.finetuning import Finetuning

    model, task = conv_net(), picture_task()
    plain = {"epochs": 2, "optimizer": sgd(0.05, momentum=0.9), "batch_size": 4}
    method = MaskedSmallGradients(fraction=0.0, kept_rate=1.0, schedule=None, **plain)
    tuned = unlearned(Finetuning(**plain), model, task)
    assert distance(weights(unlearned(method, model, task)), weights(tuned)) < 1e-12


def test_msg_without_convolutions_names_the_way_out():
    task, model = tiny_task(), tiny_net()
    with pytest.raises(RequirementNotMet, match='layers="all"'):
        unlearned(MaskedSmallGradients(), model, task)
    changed = unlearned(MaskedSmallGradients(layers="all", epochs=0, fraction=0.5), model, task)
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
    ],
)
def test_memorised_pictures_are_forgotten(method):
    import dataclasses

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
