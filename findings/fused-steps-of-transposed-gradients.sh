#!/usr/bin/env bash
# A fused optimizer step on the CPU reads gradients as they lie in memory: a gradient that lies transposed beside its weight moves other
# weights than its own, without a word. Expected: the step of the same optimizer that is not fused. Backward passes lay gradients out like
# the weights; gradients that are written by hand (projected, masked, combined) may lie otherwise. Exits with 1 when this has changed.
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
gradient = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
transposed = gradient.t().contiguous().t()
print("the two gradients are equal:", torch.equal(gradient, transposed), "their strides:", gradient.stride(), transposed.stride())


def stepped(optimizer, given, fused):
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = given
    optimizer([weight], lr=0.1, fused=fused).step()
    return weight.detach()


wrong = []
for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
    plain = stepped(optimizer, transposed, fused=False)
    assert torch.allclose(stepped(optimizer, gradient, fused=True), plain), "the fused step differs where the layouts agree"
    fused = stepped(optimizer, transposed, fused=True)
    wrong.append(not torch.allclose(fused, plain))
    print(f"{optimizer.__name__}: expected {plain.round(decimals=3).tolist()}, seen fused {fused.round(decimals=3).tolist()}")
sys.exit(0 if all(wrong) else 1)
PYTHON
