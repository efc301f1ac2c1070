#!/usr/bin/env bash
# Two layers that keep or change more than their users ask for:
# 1. SGConv(cached=True) of torch_geometric carries the features of its first call into deep copies, and answers from them.
# 2. Leaving peft's disable_adapter() makes adapters trainable that were frozen before.
# Expected: a copy that reads its input; frozen adapters stay frozen. Exits with 1 when either has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 torch_geometric==2.8.1 peft==0.21.2 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import sys

import peft
import torch
import torch_geometric
from torch import nn
from torch_geometric.nn import SGConv

print("torch", torch.__version__, "torch_geometric", torch_geometric.__version__, "peft", peft.__version__)
torch.manual_seed(0)
x, edges = torch.randn(4, 3), torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
layer = SGConv(3, 2, cached=True)
first = layer(x, edges)
kept = torch.equal(copy.deepcopy(layer)(torch.zeros(4, 3), edges), first)
print(f"a deep copy on features of zeros: expected another output, seen {'the first one' if kept else 'another'}")

base = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], r=2)).requires_grad_(False)
with adapted.disable_adapter():
    pass
woken = sum(parameter.requires_grad for parameter in adapted.parameters())
print(f"trainable tensors of a frozen model after disable_adapter(): expected 0, seen {woken}")
sys.exit(0 if kept and woken else 1)
PYTHON
