#!/usr/bin/env bash
# BatchNorm2d in training, on the CPU, of the same pictures in two layouts. Expected: statistics that are right to seven digits in float32
# for both, since only the order in memory differs. Where channels lie last (`torch.channels_last`), all values
# of a channel are added up one after the other: means and variances of a quarter of a million values lose three digits more, and
# so do running statistics and gradients. Exits with 1 when this has changed.
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
torch.set_num_threads(1)
x = torch.rand(64, 16, 64, 64, generator=torch.Generator().manual_seed(0)) + 4
expected = x.double().var((0, 2, 3), correction=1)
mean = x.double().mean((0, 2, 3))


def lost(layout: torch.memory_format) -> tuple[float, float]:
    norm = nn.BatchNorm2d(16, momentum=1.0)
    norm(x.to(memory_format=layout))
    return float((norm.running_mean - mean).abs().max() / mean.max()), float((norm.running_var - expected).abs().max() / expected.max())


errors = {layout: lost(layout) for layout in (torch.contiguous_format, torch.channels_last)}
for layout, (of_mean, of_variance) in errors.items():
    print(f"{layout}: relative error of the mean {of_mean:.1e}, of the variance {of_variance:.1e}, expected 1e-07 or so for both layouts")
(of_mean, of_variance), last = errors[torch.contiguous_format], errors[torch.channels_last]
sys.exit(0 if max(of_mean, of_variance) < 1e-6 and min(last) > 3e-6 else 1)
PYTHON
