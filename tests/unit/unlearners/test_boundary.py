"""Boundary Shrink and Boundary Expand."""

import dataclasses

import pytest
import torch
from torch import nn
from toys import (
    Memorised,
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
    loss_by_hand,
    make_task,
    memorised,
    norm_net,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import RequirementNotMet
from erasure.testing.problems import problem
from erasure.training.batches import TensorColumn
from erasure.training.predictor import ModelInput
from erasure.unlearners.boundary_expand import BoundaryExpand, _logits_beside
from erasure.unlearners.boundary_shrink import BoundaryShrink
from erasure.unlearners.contract import frozen_copy
from erasure.unlearners.masked import Masked
from erasure.unlearners.saliency import SaliencyMask


def adversarial_by_hand(parameters, x, y, step):
    leaf = x.clone().requires_grad_(True)
    gradient = torch.autograd.grad(cross_entropy_by_hand(logits_by_hand(parameters, leaf), y), leaf)[0]
    return x + step * gradient.sign()


# Shrink


@pytest.mark.parametrize("exclude", [False, True])
def test_shrink_follows_the_paper_step_by_step(exclude):
    context, model = tiny_task(), tiny_net()
    method = BoundaryShrink(epochs=3, optimizer=sgd(0.2, momentum=0.9), batch_size=4, bound=0.6, exclude_own_class=exclude)
    ids = context.partitions["forget"]
    parameters = start(model)
    original = [p.detach().clone() for p in parameters]
    x, y = context.x.values[ids], context.y[ids]
    logits = logits_by_hand(original, adversarial_by_hand(original, x, y, 0.6))
    if exclude:
        logits[torch.arange(6), y] = -torch.inf
    labels = context.y.clone()
    labels[ids] = logits.argmax(1)
    assert not torch.equal(labels, context.y)
    steps, passes = SgdByHand(parameters, 0.2, momentum=0.9), Shuffles(context, "forget")
    for _ in range(3):
        for batch in passes.one_pass():
            steps.step(loss_by_hand(parameters, context, batch, labels[batch]))

    result = weights(unlearned(method, model, context))
    assert distance(weights(model), result) > 1e-2
    assert distance(result, parameters) < 1e-10


def test_the_neighbour_is_within_the_bound_and_the_range_of_the_images():
    given = problem("image")
    context = given.context.seen_by(BoundaryShrink())
    batch = next(iter(context.batches("forget", shuffle=False)))
    teacher, method = frozen_copy(given.model), BoundaryShrink(bound=0.3)
    free = method._adversarial(teacher, batch, context, None)
    assert torch.allclose((free - batch.x).abs().max(), torch.tensor(0.3))
    low, high = batch.x.min(), batch.x.max()
    clipped = method._adversarial(teacher, batch, context, (low, high))
    assert float((clipped - batch.x).abs().max()) <= 0.3 + 1e-6
    assert low <= clipped.min() <= clipped.max() <= high
    assert torch.equal(clipped, free.clamp(low, high))


def test_the_neighbour_of_a_sample_has_a_higher_loss():
    context, model = tiny_task().seen_by(BoundaryShrink()), frozen_copy(tiny_net())
    batch = next(iter(context.batches("forget", shuffle=False)))
    adversarial = BoundaryShrink(bound=0.05)._adversarial(model, batch, context, None)
    assert float(context.criterion(model(adversarial), batch.y)) > float(context.criterion(model(batch.x), batch.y))


def test_the_bound_is_in_the_unit_of_the_data_before_normalisation():
    context, std = tiny_task(), torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    normalised = dataclasses.replace(context, x=TensorColumn(context.x.values * std, mean=torch.zeros(4).double(), std=std))
    batch = next(iter(normalised.seen_by(BoundaryShrink()).batches("forget", shuffle=False)))
    adversarial = BoundaryShrink(bound=0.1)._adversarial(frozen_copy(tiny_net()), batch, normalised, None)
    assert torch.allclose((adversarial - batch.x).abs() * std, torch.full_like(batch.x, 0.1))


def test_a_failed_attack_keeps_the_label_unless_excluded():
    learned = memorised()
    context = learned.task.seen_by(BoundaryShrink())
    ids = context.partitions["forget"]
    kept = BoundaryShrink(bound=1e-6)._nearest_classes(frozen_copy(learned.original), context)
    moved = BoundaryShrink(bound=1e-6, exclude_own_class=True)._nearest_classes(frozen_copy(learned.original), context)
    assert torch.equal(kept, context.y)
    assert bool((moved[ids] != context.y[ids]).all())


def test_binary_neighbours_can_be_the_other_class():
    context = tiny_task(kind="binary").seen_by(BoundaryShrink())
    labels = BoundaryShrink(exclude_own_class=True)._nearest_classes(frozen_copy(tiny_net(n_outputs=1)), context)
    ids = context.partitions["forget"]
    assert torch.equal(labels[ids], 1 - context.y[ids])
    assert torch.equal(labels[6:], context.y[6:])


def test_shrink_is_defined_for_tokens_but_neither_for_graphs_nor_for_multilabel():
    given = problem("text")
    result = unlearned(BoundaryShrink(bound=2.0, optimizer=sgd(0.1)), given.model, given.context)
    assert not same_model(result, given.model)
    assert not result.embedding._forward_hooks
    assert "graphs" in BoundaryShrink().unsupported_reason(ModelInput((4,), 3, modality="graph"))
    assert "multilabel" in BoundaryShrink().unsupported_reason(ModelInput((4,), 3, task="multilabel"))


# Expand


def test_expand_follows_the_paper_step_by_step():
    context, model = tiny_task(), tiny_net()
    w1, b1, w2, b2 = (p.detach().clone() for p in model.parameters())
    drawn = torch.randn(1, 6, generator=context.streams.torch("shadow_class"), dtype=torch.float64)
    row = (2 / (6 + 4)) ** 0.5 * drawn
    zero = torch.zeros(1, dtype=torch.float64)
    parameters = [p.requires_grad_(True) for p in (w1, b1, torch.cat([w2, row]), torch.cat([b2, zero]))]
    steps, passes = SgdByHand(parameters, 0.2, momentum=0.9, weight_decay=0.01), Shuffles(context, "forget")
    for _ in range(3):
        for batch in passes.one_pass():
            steps.step(loss_by_hand(parameters, context, batch, torch.full((len(batch),), 3)))
    expected = [*parameters[:2], parameters[2][:3], parameters[3][:3]]

    method = BoundaryExpand(epochs=3, optimizer=sgd(0.2, momentum=0.9, weight_decay=0.01), batch_size=4)
    result = weights(unlearned(method, model, context))
    assert distance(weights(model), result) > 1e-2
    assert distance(result, expected) < 1e-10


def test_expand_returns_exactly_the_original_outputs():
    model = tiny_net()
    result = unlearned(BoundaryExpand(optimizer=sgd(0.1)), model, tiny_task())
    assert result(torch.zeros(2, 4).double()).shape == (2, 3)
    assert list(result.state_dict()) == list(model.state_dict())
    assert [p.shape for p in result.parameters()] == [p.shape for p in model.parameters()]
    assert not any(m._forward_hooks for m in result.modules())


def test_before_training_the_first_logits_are_the_original_ones():
    model, context = tiny_net(), tiny_task().seen_by(BoundaryExpand())
    head, shadow, n_outputs = BoundaryExpand()._expand(model, context)
    x = context.x.values[:5]
    wide = _logits_beside(model, head, shadow, x)
    assert wide.shape == (5, 4)
    assert n_outputs == 3
    assert torch.equal(wide[:, :3], model(x))
    assert model(x).shape == (5, 3)


def test_whoever_listens_between_epochs_sees_the_original_outputs():
    seen = []
    context = tiny_task(
        on_epoch=lambda epoch, epochs, model: seen.append((model(torch.zeros(1, 4).double()).shape, len(model.state_dict())))
    )
    unlearned(BoundaryExpand(epochs=2), tiny_net(), context)
    assert seen == [((1, 3), 4), ((1, 3), 4)]


def test_expand_fits_behind_a_mask():
    model, mask = tiny_net(), SaliencyMask(fraction=0.5)
    result = unlearned(Masked(inner=BoundaryExpand(optimizer=sgd(0.5)), mask=mask), model, tiny_task())
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), result.parameters(), strict=True)]) != 0
    assert 0 < int(moved.sum()) <= 0.6 * len(moved)


def test_expand_finds_the_head_of_a_pair_and_refuses_a_model_without_one():
    given = problem("pair")
    assert not same_model(unlearned(BoundaryExpand(optimizer=sgd(0.1)), given.model, given.context), given.model)
    with pytest.raises(RequirementNotMet, match=r"no nn\.Linear with 3 outputs"):
        BoundaryExpand().run(nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 4), nn.Flatten()).double(), tiny_task())
    twisted = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 3, 3), nn.Flatten()).double()
    with pytest.raises((RequirementNotMet, RuntimeError)):
        BoundaryExpand().run(twisted, tiny_task())


def test_expand_is_defined_for_classification_only():
    for kind in ("binary", "multilabel"):
        assert f"not defined for {kind}" in BoundaryExpand().unsupported_reason(ModelInput((4,), 2, task=kind))


# Both


@pytest.mark.parametrize("cls", [BoundaryShrink, BoundaryExpand])
def test_every_size_and_a_whole_class_work(cls):
    kinds = ("classification", "binary") if cls is BoundaryShrink else ("classification",)
    check_forget_sizes(cls(batch_size=4), kinds=kinds)
    check_whole_class(cls(batch_size=4))


@pytest.mark.parametrize("cls", [BoundaryShrink, BoundaryExpand])
def test_an_empty_forget_set_or_no_epochs_change_nothing(cls):
    model = norm_net()
    assert same_model(unlearned(cls(), model, tiny_task(0)), model)
    assert same_model(unlearned(cls(epochs=0), model, tiny_task()), model)


@pytest.mark.parametrize(
    "method",
    [
        BoundaryShrink(epochs=5, optimizer=sgd(0.01, momentum=0.9), bound=2.0, exclude_own_class=True),
        BoundaryExpand(epochs=15, optimizer=sgd(0.03, momentum=0.9)),
    ],
)
def test_the_forget_class_is_no_longer_recognised(method):
    learned = memorised()
    forget = [i for i in range(12, 108) if int(learned.task.y[i]) == 2]
    retain = [i for i in range(12, 108) if int(learned.task.y[i]) != 2]
    context = make_task(learned.task.x.values, learned.task.y, {"forget": forget, "retain": retain}, batch_size=16)
    given = Memorised(learned.gold, learned.gold, context)
    model = unlearned(method, learned.gold, context)
    assert given.accuracy(learned.gold, "forget") > given.accuracy(model, "forget") + 0.3
    assert given.accuracy(model, "retain") > 0.5
