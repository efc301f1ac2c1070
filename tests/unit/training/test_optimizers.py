import importlib
import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn

from erasure.training import optimizers
from erasure.training.calls import Optimizer
from erasure.training.optimizers import MANY_WEIGHTS, uncompiled

KINDS = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adadelta", "Adamax", "ASGD", "Rprop"]


def trained(kind: type[torch.optim.Optimizer]) -> torch.Tensor:
    torch.manual_seed(0)
    x, y = torch.randn(32, 4), torch.randn(32, 1)
    model = torch.nn.Linear(4, 1)
    optimizer = kind(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        schedule.step()
    return model.weight.detach()


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_torch_bit_for_bit(name):
    kind = getattr(torch.optim, name)
    assert torch.equal(trained(uncompiled(kind)), trained(kind))
    assert issubclass(uncompiled(kind), kind)
    assert uncompiled(kind).__name__ == name


def test_a_closure_is_evaluated_with_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = uncompiled(torch.optim.SGD)([weight], lr=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(weight.detach(), torch.zeros(2))


def test_training_does_not_import_the_compiler_or_sympy():
    program = (
        "import sys, torch\n"
        "from erasure.training.optimizers import uncompiled\n"
        "w = torch.nn.Parameter(torch.ones(2))\n"
        "o = uncompiled(torch.optim.Adam)([w], lr=.1)\n"
        "(w ** 2).sum().backward(); o.step(); o.zero_grad(); o.state_dict()\n"
        "sys.exit(int('torch._dynamo' in sys.modules or 'sympy' in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_many_weights_are_updated_in_one_pass_whatever_the_layout_of_their_gradients(name):
    side = int(MANY_WEIGHTS**0.5)
    mine, theirs = (torch.nn.Parameter(torch.ones(side, side)) for _ in range(2))
    ours, plain = Optimizer.of(name, lr=0.01).build([mine]), getattr(torch.optim, name)([theirs], lr=0.01)
    assert ours.defaults["fused"]
    for seed in range(3):
        gradient = torch.randn(side, side, generator=torch.Generator().manual_seed(seed)).t()
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        plain.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("n", "parameters"), [(MANY_WEIGHTS - 1, {}), (MANY_WEIGHTS, {"foreach": False})])
def test_few_weights_and_those_who_chose_keep_the_steps_of_torch(n, parameters):
    assert not Optimizer.of("Adam", lr=0.01, **parameters).build([torch.nn.Parameter(torch.ones(n))]).defaults["fused"]


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_a_fused_step_that_was_asked_for_reads_gradients_in_the_order_of_their_weights(name):
    stepped = []
    for fused in (False, True):
        weight = torch.nn.Parameter(torch.zeros(2, 2))
        optimizer = Optimizer.of(name, lr=0.1, fused=fused).build([weight])
        weight.grad = torch.tensor([[1.0, -1.0], [2.0, -2.0]]).t()
        optimizer.step()
        stepped.append(weight.detach())
    torch.testing.assert_close(*stepped)


@pytest.mark.parametrize("path", optimizers._ORDINARY)
def test_what_is_ordinary_is_accepted(path):
    cls = getattr(importlib.import_module(path.rpartition(".")[0]), path.rpartition(".")[2])
    ranges, needed = optimizers._ORDINARY[path], optimizers._NEEDED.get(path.rpartition(".")[2], set())
    corners = [dict(zip(ranges, values, strict=True)) for values in itertools.product(*ranges.values())]
    for parameters in [{name: least for name, (least, _) in ranges.items() if name in needed}, *corners]:
        assert optimizers.is_ordinary(path, parameters)
        weights = [nn.Parameter(torch.zeros(1))]
        if issubclass(cls, torch.optim.Optimizer):
            cls(weights, **parameters)
        elif issubclass(cls, torch.optim.lr_scheduler.LRScheduler):
            cls(torch.optim.SGD(weights, lr=0.1), **({"T_max": 1} if "AnnealingLR" in path else {}), **parameters)
        else:
            cls(**parameters)


@pytest.mark.parametrize("value", ["0.1", True, float("nan"), float("inf"), -1e-9, None, [0.1]])
def test_what_is_odd_is_tried(value):
    assert not optimizers.is_ordinary("torch.optim.SGD", {"lr": value})
    assert not optimizers.is_ordinary("torch.optim.SGD", {"nesterov": 0})
    assert not optimizers.is_ordinary("torch.optim.lr_scheduler.StepLR", {"gamma": 0.5})
    assert not optimizers.is_ordinary("torch.optim.Adagrad", {})


def test_hooks_and_the_profiler_are_told_of_steps():
    def stepped():
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
        return weight.item()

    weight = nn.Parameter(torch.zeros(1))
    optimizer = uncompiled(torch.optim.SGD)([weight], lr=1.0)
    assert stepped() == -1
    told = []
    own = optimizer.register_step_pre_hook(lambda *_: told.append("before"))
    home = importlib.import_module("torch.optim.optimizer")
    others = home.register_optimizer_step_post_hook(lambda *_: told.append("after"))
    assert stepped() == -2
    own.remove()
    assert stepped() == -3
    others.remove()
    assert stepped() == -4
    assert told == ["before", "after", "after"]
    with torch.autograd.profiler.profile() as profile:
        assert stepped() == -5
    assert {"Optimizer.step#SGD.step", "Optimizer.zero_grad#SGD.zero_grad"} <= {each.name for each in profile.function_events}
    optimizer.zero_grad(set_to_none=False)
    assert weight.grad.item() == 0
