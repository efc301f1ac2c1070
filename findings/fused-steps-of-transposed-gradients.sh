#!/usr/bin/env bash
# A fused step on the CPU passes over weights and gradient as they lie in memory: a gradient with other strides than its weights, such as a
# transposed one, reaches the wrong weights, without a word. The plain step of the same optimizer is right.
# Expected: the same weights from both. Exits with 1 when that has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).t()
wrong = {}
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
    after = []
    for fused in (False, True):
        weights = torch.nn.Parameter(torch.ones(3, 4))
        weights.grad = gradient.clone()
        kind([weights], lr=0.1, fused=fused).step()
        after.append(weights.detach())
    wrong[kind.__name__] = float((after[0] - after[1]).abs().max())
    print(f"{kind.__name__}, gradient with strides {gradient.stride()}: expected a difference of 0, seen {wrong[kind.__name__]:.3f}")
sys.exit(0 if all(difference > 0.01 for difference in wrong.values()) else 1)
PYTHON
