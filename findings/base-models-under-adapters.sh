#!/usr/bin/env bash
# peft puts its adapters into the model that it is given: a reference kept as a second name for the base model answers with the adapters.
# Expected: get_peft_model() wraps, and the base model stays a teacher that does not learn. Only a deep copy made before, or
# disable_adapter(), is one. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 peft==0.21.2 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import sys

import peft
import torch
from torch import nn

print("torch", torch.__version__, "peft", peft.__version__)
torch.manual_seed(0)
base = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
x = torch.randn(8, 4)
copied, before = copy.deepcopy(base), base(x).detach()
student = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], r=2))
optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
for _ in range(20):
    optimizer.zero_grad()
    student(x).square().mean().backward()
    optimizer.step()
far = {name: (model(x) - before).abs().max().item() for name, model in {"the base model": base, "a deep copy of it": copied}.items()}
with student.disable_adapter():
    far["the student without its adapter"] = (student(x) - before).abs().max().item()
for name, value in far.items():
    print(f"outputs of {name} after the student was trained: expected to have moved by 0, seen {value:.3f}")
print("its first layer is now a", type(base[0]).__module__)
sys.exit(0 if [value > 0 for value in far.values()] == [True, False, False] else 1)
PYTHON
