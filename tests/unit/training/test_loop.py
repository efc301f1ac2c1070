"""The training loop: updates, masks, modes, schedules and guards."""

import copy

import pytest
import torch
from torch import nn

from erasure.errors import Diverged, RequirementNotMet
from erasure.functional.losses import per_sample_loss
from erasure.training.batches import Batch, Batches, TensorColumn
from erasure.training.calls import Optimizer, Schedule
from erasure.training.loop import Trainer, paired


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, 6, generator=generator)
    return TensorColumn(x), (x[:, 0] > 0).long()


def network(*, batch_norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(8)] if batch_norm else []
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.ReLU(), nn.Linear(8, 2))


def batches(data, n=70, size=16, seed=1):
    return Batches(*data, torch.arange(n), size, torch.Generator().manual_seed(seed))


def loss_of(model):
    return lambda batch: per_sample_loss("classification", model(batch.x), batch.y).mean()


def test_training_equals_a_loop_written_by_hand(data):
    ours, bare = network(), network()
    trainer = Trainer(ours, Optimizer.of("SGD", lr=0.1, momentum=0.9), epochs=2)
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(ours))
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
        for ids in order.split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(bare(data[0].values[ids]), data[1][ids]).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", [("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}), ("AdamW", {"lr": 0.01})])
def test_masked_weights_and_their_state_never_move(data, optimizer):
    name, parameters = optimizer
    model = network()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    mask = {n: (torch.arange(p.numel()).reshape(p.shape) % 2).to(p.dtype) for n, p in model.named_parameters()}
    trainer = Trainer(model, Optimizer.of(name, **parameters), epochs=3, mask=mask)
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(model))
    for n, p in model.named_parameters():
        assert torch.equal(p[mask[n] == 0], before[n][mask[n] == 0])
        assert not torch.equal(p[mask[n] == 1], before[n][mask[n] == 1])
        for state in trainer.optimizer.state[p].values():
            if isinstance(state, torch.Tensor) and state.shape == p.shape:
                assert not state[mask[n] == 0].any()


def test_a_mask_for_another_model_is_refused(data):
    with pytest.raises(RequirementNotMet, match=r"nothing\.weight"):
        Trainer(network(), Optimizer.of("SGD", lr=0.1), epochs=1, mask={"nothing.weight": torch.ones(1)})


def test_frozen_modules_stay_in_eval_mode_and_keep_their_statistics(data):
    model = network(batch_norm=True)
    norm = model[1]
    statistics = copy.deepcopy(norm.state_dict())
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1, frozen=[norm])
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(model))
        assert model[0].training
        assert not norm.training
    assert torch.equal(norm.running_mean, statistics["running_mean"])


def test_frozen_batch_norm_keeps_every_running_statistic(data):
    model = network(batch_norm=True)
    before = model[1].running_mean.clone()
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1, batch_norm="frozen")
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(model))
    assert torch.equal(model[1].running_mean, before)
    assert not torch.equal(Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1).model[1].weight, torch.ones(8))


def test_a_batch_norm_whose_weights_are_frozen_keeps_its_statistics_as_the_weights_do(data):
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)
    )
    model[:2].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1)
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(model))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in moved if name[0] in "01"}
    assert {"3.weight", "4.running_mean", "5.weight"} <= moved  # without weights of its own a layer is not frozen


def test_a_last_batch_of_one_sample_passes_through_batch_norm(data):
    model = network(batch_norm=True)
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1)
    for _ in trainer.epochs():
        trainer.train_on(batches(data, n=17), loss_of(model))
    assert model[1].training
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_schedule_lasts_as_long_as_the_training(data):
    model = network()
    trainer = Trainer(
        model, Optimizer.of("SGD", lr=1.0), epochs=4, schedule=Schedule.of("LinearLR", start_factor=1.0, end_factor=0.5)
    )
    rates = []
    for _ in trainer.epochs():
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.train_on(batches(data, n=4, size=4), lambda batch: 0 * loss_of(model)(batch))
    assert rates == pytest.approx([1.0, 0.875, 0.75, 0.625])
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_stops_the_training(data):
    model = network()
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=3)
    with pytest.raises(Diverged, match="epoch 2 of 3"):
        for epoch in trainer.epochs():
            trainer.train_on(batches(data), lambda batch, e=epoch: loss_of(model)(batch) * (float("nan") if e == 1 else 1.0))


def test_weights_that_run_away_stop_the_training_while_they_are_still_finite():
    """What a processor with shorter sums would not have called infinite."""
    model = nn.Linear(1, 1, bias=False)
    trainer = Trainer(model, Optimizer.of("SGD", lr=1e12), epochs=3)
    with pytest.raises(Diverged, match="the weights have run away in epoch 1 of 3"):
        for _ in trainer.epochs():
            trainer.train_on([None], lambda _: -model.weight.sum())
    assert torch.isfinite(model.weight).all()


def test_a_loss_beyond_any_model_stops_the_training_while_it_is_still_finite():
    model = nn.Linear(1, 1, bias=False)
    trainer = Trainer(model, Optimizer.of("SGD", lr=1e-25), epochs=1)
    with pytest.raises(Diverged, match=r"the loss is 1e\+20 in epoch 1 of 1"):
        trainer.train_on([None], lambda _: model.weight.sum() * 0 + 1e20)


def test_nothing_to_train_is_refused():
    model = network()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(RequirementNotMet, match="no parameter"):
        Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1)


def test_an_empty_pass_changes_nothing(data):
    model = network()
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1, weight_decay=0.1), epochs=2)
    for _ in trainer.epochs():
        assert trainer.train_on(batches(data, n=0), loss_of(model)) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_are_clipped_to_the_norm(data):
    model = network()
    trainer = Trainer(model, Optimizer.of("SGD", lr=1.0), epochs=1, max_grad_norm=1e-3)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    trainer.train_on(batches(data, n=16), loss_of(model))
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert moved.norm() == pytest.approx(1e-3, rel=1e-3)


def test_listeners_hear_of_every_epoch(data):
    model, heard = network(), []
    trainer = Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=3, on_epoch=lambda e, n, m: heard.append((e, n, m is model)))
    for _ in trainer.epochs():
        trainer.train_on(batches(data), loss_of(model))
    assert heard == [(1, 3, True), (2, 3, True), (3, 3, True)]


def test_paired_batches_cycle_the_shorter_side(data):
    longer, shorter = batches(data, n=70), batches(data, n=20, seed=2)
    pairs = list(paired(longer, shorter))
    assert len(pairs) == len(longer) == 5
    assert [len(b.y) for _, b in pairs] == [16, 4, 16, 4, 16]
    assert not torch.equal(pairs[0][1].ids, pairs[2][1].ids)
    assert list(paired(longer, batches(data, n=0))) == []


def test_a_single_image_is_normalised_by_its_own_pixels_as_torch_does():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    plain = copy.deepcopy(ours)
    x, y = torch.randn(1, 1, 4, 4), torch.tensor([1])
    batch = Batch(x, y, torch.tensor([0]))
    trainer = Trainer(ours, Optimizer.of("SGD", lr=0.1), epochs=1)
    for _ in trainer.epochs():
        trainer.train_on([batch], lambda b: nn.functional.cross_entropy(ours(b.x), b.y))
    optimizer = torch.optim.SGD(plain.train().parameters(), lr=0.1)
    nn.functional.cross_entropy(plain(x), y).backward()
    optimizer.step()
    for one, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_single_value_a_channel_is_normalised_by_the_running_statistics():
    ours = nn.Sequential(nn.Conv2d(1, 3, 4), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in ours[1].named_buffers()}
    batch = Batch(torch.randn(1, 1, 4, 4), torch.tensor([1]), torch.tensor([0]))
    trainer = Trainer(ours, Optimizer.of("SGD", lr=0.1), epochs=1)
    for _ in trainer.epochs():
        trainer.train_on([batch], lambda b: nn.functional.cross_entropy(ours(b.x), b.y))
    assert all(torch.equal(value, before[name]) for name, value in ours[1].named_buffers())
    assert ours[1].training
    assert not ours[1]._forward_pre_hooks
