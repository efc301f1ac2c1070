"""One pass of a model: large inputs go through it a few at a time, to the same outputs."""

import torch
from torch import nn

from erasure.measures.contract import forward_pass
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion


class Means(nn.Module):
    """Logits from the mean of each picture; remembers how many it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x):
        self.given.append(len(x))
        mean = x.double().mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


def passed(side, n):
    x = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    y, model = torch.arange(n) % 2, Means()
    found = forward_pass(
        model, x=TensorColumn(x), y=y, ids=torch.arange(n), criterion=Criterion("classification"), task="classification"
    )
    return model.given, found.logits, Means()(x).float()


def test_large_pictures_go_through_a_network_a_few_at_a_time():
    given, logits, expected = passed(side=512, n=40)
    assert max(given) == 2**22 // 512**2 and sum(given) == 40
    assert torch.equal(logits, expected)


def test_small_ones_go_through_it_together():
    given, logits, expected = passed(side=28, n=1000)
    assert given == [1000]
    assert torch.equal(logits, expected)
