#!/usr/bin/env bash
# The bias of a convolution in front of BatchNorm2d is subtracted again, so its gradient is zero. Expected: training leaves it where it began.
# In float32 the gradient is rounding of 1e-8, which torch.optim.Adam divides by its own size: the bias walks away by a good part of the
# learning rate a step, while no output depends on it; in float64 it stays. Distances between the weights of two models, and what is read as
# importance from how far weights have moved, count this walk. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch import nn

print("torch", torch.__version__)
x = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(0))
y = (x[:, 0, :4].sum((1, 2)) > 0).long()


def trained(dtype: torch.dtype) -> tuple[float, float, float]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)).to(dtype)
    bias = network[0].bias
    start = bias.detach().clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    largest = 0.0
    for step in range(200):
        part = slice(step % 8 * 32, step % 8 * 32 + 32)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[part].to(dtype)), y[part]).backward()
        largest = max(largest, float(bias.grad.abs().max()))
        optimizer.step()
    with torch.no_grad():
        before = network(x.to(dtype))  # by the statistics of these samples
        moved = float((bias - start).abs().max())
        bias.copy_(start)
        return largest, moved, float((network(x.to(dtype)) - before).abs().max())


seen = {}
for dtype in (torch.float32, torch.float64):
    largest, moved, matters = seen[dtype] = trained(dtype)
    print(f"{dtype}: gradient of the bias up to {largest:.1e}, expected 0; after 200 steps of 0.001 it has moved by {moved:.1e}, expected 0;")
    print(f"    putting it back changes the logits by {matters:.1e}")
(_, single, changed), (_, double, _) = seen[torch.float32], seen[torch.float64]
sys.exit(0 if single > 1e-3 and changed < 1e-4 and double < 1e-6 else 1)
PYTHON
