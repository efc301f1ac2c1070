"""A training of one's own: small CNNs, a plain loop, real handwritten digits. Each person wrote ten of them.

``train`` is the loop. ``erasure.sharded`` has it train five networks that vote, each on the digits of a fifth of the people, so that
forgetting a person trains one of them again.

``erasure request examples/digits_training.py --model model.safetensors --ids person7 --dry-run``
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import erasure

_DIGITS = load_digits()
X = torch.tensor(_DIGITS.images, dtype=torch.float32).unsqueeze(1) / 16
Y = torch.tensor(_DIGITS.target)
N_TRAIN, EACH = 600, 10


def data() -> tuple[Tensor, Tensor]:
    """What the model is trained on."""
    return X[:N_TRAIN], Y[:N_TRAIN]


def test() -> tuple[Tensor, Tensor]:
    """What no model sees."""
    return X[N_TRAIN:], Y[N_TRAIN:]


def ids() -> list[str]:
    """Whose sample each one is."""
    return [f"person{place // EACH}" for place in range(N_TRAIN)]


def network() -> nn.Module:
    """An untrained network."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def train(indices: "np.ndarray", seed: int) -> nn.Module:
    """Train one network from scratch on some of the data."""
    torch.manual_seed(seed)
    made, rows = network(), torch.as_tensor(np.asarray(indices))
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    for _ in range(20):
        for batch in rows[torch.randperm(len(rows))].split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(made(X[batch]), Y[batch]).backward()
            optimizer.step()
    return made.eval()


fit = erasure.sharded(train, network, ids(), shards=5)


def model() -> nn.Module:
    """The untrained networks."""
    return fit.untrained()
