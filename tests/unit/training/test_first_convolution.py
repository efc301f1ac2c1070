"""A first convolution as a product with patches that are cut once."""

import pytest
import torch
from torch import nn

from erasure.training.batches import TensorColumn
from erasure.training.ensemble import patches
from erasure.training.ensemble.layers import SampleRows
from erasure.training.ensemble.patches import Patches
from erasure.training.ensemble.tape import _FirstConvolution

IDS = [torch.tensor([4, 1, 8]), torch.tensor([8, 3, 4])]


def column(dtype=torch.float64):
    return TensorColumn(torch.randn(9, 2, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": (2, 1), "padding": (0, 2)}, {"bias": False}])
def test_values_and_gradients_are_those_of_the_convolution(options):
    generator = torch.Generator().manual_seed(1)
    layer = nn.Conv2d(2, 16, 3, **options)
    own = {name: torch.randn(2, *each.shape, generator=generator).double() for name, each in layer.named_parameters()}
    x = column()
    given = Patches.of(x, IDS, layer)
    first, into = _FirstConvolution(layer), {name: torch.empty_like(each) for name, each in own.items()}
    rows = given.gather(torch.cat(IDS)).unflatten(0, (2, 3))
    found = first.forward(rows, own, SampleRows())
    gradient = torch.randn(found.shape, generator=generator).double()
    first.backward(gradient, into, needs_input=False)
    for model, ids in enumerate(IDS):
        alone = {name: each[model].clone().requires_grad_() for name, each in own.items()}
        expected = torch.func.functional_call(layer, alone, (x.values[ids],))
        torch.testing.assert_close(found[model], expected)
        for name, each in zip(alone, torch.autograd.grad(expected, list(alone.values()), gradient[model]), strict=True):
            torch.testing.assert_close(into[name][model], each)


def test_patches_are_not_kept_of_too_much(monkeypatch):
    layer = nn.Conv2d(2, 16, 3)
    assert Patches.of(column(), IDS, layer) is not None
    assert Patches.of(column(torch.int64), IDS, layer) is None
    assert Patches.of(column(), IDS, nn.Conv2d(2, 5, 3)) is None  # too little work for their memory
    assert Patches.of(column(), IDS, nn.Conv2d(2, 16, 5)) is None  # enough work without them
    assert Patches.of(column(), IDS, nn.Conv2d(2, 16, 1, padding=8)) is None  # too many of one picture
    monkeypatch.setattr(patches, "MAX_BYTES", 1000)
    assert Patches.of(column(), IDS, layer) is None
