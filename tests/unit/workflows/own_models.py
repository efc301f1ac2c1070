"""A tiny problem with a training function of its own: labels are partly noise, so that a network has something to remember."""

import numpy as np
import torch
from torch import nn

N, N_TEST, WIDTH = 80, 60, 12


def problem(seed=0, n_test=N_TEST):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N + n_test, WIDTH, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    noisy = torch.rand(N + n_test, generator=generator) < 0.25
    y = torch.where(noisy, 1 - y, y)
    return (x[:N], y[:N]), (x[N:], y[N:])


def network():
    return nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 2))


class Calls:
    """What a training function was asked for; what an object holds is no part of what a function does."""

    def __init__(self):
        self.made = []

    def __len__(self):
        return len(self.made)


def trainer(data, *, steps=60, calls=None):
    x, y = data

    def fit(indices, seed):
        if calls is not None:
            calls.made.append((len(indices), seed))
        torch.manual_seed(seed)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        rows = torch.as_tensor(np.asarray(indices))
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        return model

    return fit
