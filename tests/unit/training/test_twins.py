from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from erasure.measures.contract import forward_pass
from erasure.training import devices
from erasure.training.batches import Batches, TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.loop import Trainer
from erasure.training.twins import replaced, twins_of
from erasure.unlearners.task import frozen_copy

POOLS = {
    "2x2": nn.MaxPool2d(2),
    "overlapping": nn.MaxPool2d(3, 2, 1),
    "rounded up": nn.MaxPool2d(2, 2, 0, 1, False, True),
    "not square": nn.MaxPool2d((2, 3), 2),
}


def images(*shape):
    """Whole numbers from 0, so that many windows have their largest value more than once."""
    return torch.relu((torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3).round())


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (2, 5, 7, 9)], ids=str)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_by_a_twin_gives_the_same_values_and_gradients(name, shape):
    pool, x = POOLS[name], images(*shape)

    def computed():
        own = x.clone().requires_grad_()
        pooled = pool(own)
        weights = torch.arange(pooled.numel()).view(pooled.shape) + 1.0
        (gradient,) = torch.autograd.grad((pooled.square() * weights).sum(), own, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), own)
        return pooled.detach(), gradient.detach(), second

    expected = computed()
    with replaced(twins_of(pool)) as taken:
        found = computed()
        with torch.no_grad():
            values = pool(x)
    assert taken == {pool}
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(values, expected[0])
    assert values.is_contiguous()


def test_a_window_without_pixels_is_refused_as_by_the_layer():
    with replaced(twins_of(POOLS["2x2"])), torch.no_grad(), pytest.raises(RuntimeError, match="too small"):
        POOLS["2x2"](images(1, 1, 1, 4))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 3))


def test_training_and_passes_pool_by_the_twin_and_end_with_the_same_weights():
    model = network()
    bare, x, y, ids = copy.deepcopy(model), images(6, 1, 8, 8), torch.arange(6) % 3, torch.arange(6)
    had_twin = []

    def loss(batch):
        had_twin.append("forward" in vars(model[2]))
        return F.cross_entropy(model(batch.x), batch.y)

    Trainer(model, Optimizer.of("SGD", lr=0.1), epochs=1).train_on(Batches(TensorColumn(x), y, ids, 4), loss)
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1)
    for part in ids.split(4):
        optimizer.zero_grad()
        F.cross_entropy(bare(x[part]), y[part]).backward()
        optimizer.step()
    assert had_twin == [True, True]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), bare.parameters(), strict=True))
    model.register_forward_hook(lambda *_: had_twin.append("forward" in vars(model[2])))
    outputs = forward_pass(model, x=TensorColumn(x), y=y, ids=ids, criterion=Criterion("classification"), task="classification")
    assert had_twin == [True, True, True]
    assert torch.equal(outputs.logits, bare(x).detach())
    assert "forward" not in vars(model[2])


def test_teachers_pool_by_the_twin_and_so_do_their_copies():
    model, x = network(), images(6, 1, 8, 8)
    teacher = frozen_copy(model)
    copied = copy.deepcopy(teacher)
    for each in (teacher, copied):
        assert "forward" in vars(each[2])
        assert torch.equal(each(x), model(x))
    assert vars(copied[2])["forward"].args[0] is copied[2]
    assert "forward" not in vars(model[2])


def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(devices._c_library() is None, reason="needs glibc")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_is_kept_until_a_peak_is_measured():
    devices.keep_freed_memory()
    before = resident_mib()
    parts = [torch.ones(2**20) for _ in range(24)]
    del parts
    assert resident_mib() > before + 48
    devices.PeakMemory(torch.device("cpu"))
    assert resident_mib() < before + 48
