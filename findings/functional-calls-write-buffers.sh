#!/usr/bin/env bash
# torch.func.functional_call() with weights of the caller still writes the running statistics of the module: a trial of other weights changes
# the BatchNorm of the model that was to stay as it is. So does handing over its buffers; only copies of them are safe.
# Expected: a functional call leaves the module alone. Exits with 1 when this has changed.
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
from torch.func import functional_call

print("torch", torch.__version__)
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
x = torch.randn(16, 3)
weights = {name: torch.full_like(value, 2.0) for name, value in network.named_parameters()}


def written(buffers):
    tried = copy.deepcopy(network)
    before = {name: value.clone() for name, value in tried.named_buffers()}
    functional_call(tried, {**weights, **buffers(tried)}, (x,))
    return sum(not torch.equal(before[name], value) for name, value in tried.named_buffers())


cases = {
    "weights alone": lambda module: {},
    "weights and the module's buffers": lambda module: dict(module.named_buffers()),
    "weights and copies of its buffers": lambda module: {name: value.clone() for name, value in module.named_buffers()},
}
found = {name: written(buffers) for name, buffers in cases.items()}
for name, n in found.items():
    print(f"given {name}: buffers of the module that changed: expected 0, seen {n} of 3")
sys.exit(0 if list(found.values()) == [3, 3, 0] else 1)
PYTHON
