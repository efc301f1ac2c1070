"""Small networks of several layers, and a bench that runs them."""

import torch
from torch import nn

from erasure.testing.evaluations import ToyEvaluation


def bench_of(models, *, n=60, sizes=(20, 40), n_features=5, seed=0, **changes):
    """A bench of 3 classes with the partitions ``forget`` and ``test`` and the given models."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_features, generator=generator)
    y = torch.randint(0, 3, (n,), generator=generator)
    forget, test = torch.randperm(n, generator=generator).split(list(sizes))
    return ToyEvaluation(
        **{"task": "classification", "x": x, "y": y, "partitions": {"forget": forget, "test": test}, "models": models, **changes}
    )


def network(seed, *, inplace=False, n_features=5):
    """Two hidden layers; ``inplace`` lets the ReLU write over its input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(n_features, 8), nn.ReLU(inplace=inplace), nn.Sequential(nn.Linear(8, 6), nn.Tanh()), nn.Linear(6, 3)]
        return nn.Sequential(*layers).eval()


class WithFeatures(nn.Module):
    """Returns ``(features, logits)``."""

    def __init__(self, seed):
        super().__init__()
        self.body, self.head = network(seed)[:3], network(seed)[3]

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)
