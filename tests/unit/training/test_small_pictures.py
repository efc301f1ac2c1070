"""Convolutions of a few pixels by way of points."""

import pytest
import torch
from torch import nn

from erasure.training.ensemble.small_pictures import SmallConvolution

M, B = 2, 3


@pytest.mark.parametrize(
    ("sides", "options"),
    [
        ((4, 4), {"kernel_size": 3, "padding": 1}),
        ((2, 3), {"kernel_size": 3, "padding": 1}),
        ((6, 5), {"kernel_size": (2, 3), "bias": False}),
        ((1, 4), {"kernel_size": (4, 5), "padding": (2, 1)}),
    ],
)
def test_values_and_gradients_are_those_of_the_convolution(sides, options):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(8, 9, **options)
    own = {name: torch.randn(M, *each.shape, generator=generator).double() for name, each in layer.named_parameters()}
    x = torch.randn(M, B, 8, *sides, generator=generator).double()
    small, into = SmallConvolution.of(layer, x), {name: torch.empty_like(each) for name, each in own.items()}
    found = small.forward(x, own["weight"], own.get("bias"))
    gradient = torch.randn(found.shape, generator=generator).double()
    back = small.backward(gradient, into, needs_input=True)
    for model in range(M):
        alone = {name: each[model].clone().requires_grad_() for name, each in own.items()}
        given = x[model].clone().requires_grad_()
        expected = torch.func.functional_call(layer, alone, (given,))
        torch.testing.assert_close(found[model], expected)
        gradients = torch.autograd.grad(expected, [given, *alone.values()], gradient[model])
        for mine, theirs in zip((back[model], *(into[name][model] for name in alone)), gradients, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_rounding_is_that_of_a_sum():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(16, 32, 3, padding=1, bias=False).double()
    x = torch.rand(1, 64, 16, 4, 4, generator=generator).double()
    layer.weight.requires_grad_(False)
    expected = layer(x[0])

    def error(found):
        return float((found.double() - expected).square().mean() / expected.square().mean()) ** 0.5

    small = SmallConvolution.of(layer, x)
    weight = layer.weight.detach().float().unsqueeze(0)
    assert error(small.forward(x.float(), weight, None)[0]) < 4 * error(layer.float()(x[0].float())) < 2e-6


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": 2}, {"kernel_size": 1}])
def test_other_convolutions_are_left_to_others(options):
    assert SmallConvolution.of(nn.Conv2d(8, 8, **{"kernel_size": 3, "padding": 1, **options}), torch.zeros(1, 1, 8, 4, 4)) is None
