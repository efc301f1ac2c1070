import subprocess
import sys

import pytest
import torch

from erasure.training.optimizers import uncompiled

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
