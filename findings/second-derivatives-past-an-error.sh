#!/usr/bin/env bash
# torch.autograd.grad gives wrong second derivatives of a function that is marked once_differentiable, instead of the error that the mark is for:
# the node that raises it hangs on a leaf of its own, which no path to the named inputs crosses. backward() raises it.
# Expected: the same error from both. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch.autograd.function import once_differentiable

print("torch", torch.__version__)


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].cos()


w = torch.tensor(0.7, requires_grad=True)
(slope,) = torch.autograd.grad(Sine.apply(w) * w, w, create_graph=True)
try:
    (found,) = torch.autograd.grad(slope, w, retain_graph=True)
    seen = f"{found.item():.4f}"
except RuntimeError as error:
    seen = f"an error ({error})"
true = (2 * w.cos() - w * w.sin()).item()
print(f"second derivative of w sin(w), truly {true:.4f}, by torch.autograd.grad: expected an error, seen {seen}")
try:
    slope.backward()
    raised = False
except RuntimeError as error:
    raised = "once_differentiable" in str(error)
print(f"by backward(): expected an error, seen {'an error' if raised else 'none'}")
sys.exit(0 if raised and seen == "0.7648" else 1)
PYTHON
