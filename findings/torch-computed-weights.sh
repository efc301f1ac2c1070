#!/usr/bin/env bash
# Two surprises of weights that torch computes from others (weight norm):
# 1. The second derivative of the fused weight norm is wrong, without a word.
# 2. Removing the parametrization from a deep copy takes the weight from the module that was copied.
# Expected: the second derivative of the formula; the original untouched. Exits with 1 when either has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

print("torch", torch.__version__)
torch.manual_seed(0)
v = torch.randn(3, 4, dtype=torch.float64)
g = v.norm(dim=1, keepdim=True)
x, y = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
fused = lambda v, g: nn.functional.cross_entropy(x @ torch._weight_norm(v, g, 0).T, y)
formula = lambda v, g: nn.functional.cross_entropy(x @ (g * v / v.norm(dim=1, keepdim=True)).T, y)
along = (torch.randn_like(v), torch.randn_like(g))
one, other = (torch.autograd.functional.hvp(loss, (v, g), along)[1][0] for loss in (fused, formula))
wrong = float((one - other).norm() / other.norm())
print(f"relative error of the fused second derivative: expected 0, seen {wrong:.2f}")

original = parametrizations.weight_norm(nn.Linear(4, 3))
parametrize.remove_parametrizations(copy.deepcopy(original), "weight")
lost = not hasattr(original, "weight")
print(f"weight of the original after removal from its copy: expected there, seen {'gone' if lost else 'there'}")
sys.exit(0 if wrong > 0.01 and lost else 1)
PYTHON
