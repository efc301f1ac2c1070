#!/usr/bin/env bash
# torch 2.13.0: FlopCounterMode counts nothing for some of the kernels that the CPU chooses.
# One would expect a count of multiplications and additions that does not depend on which kernel computes a layer, or a warning.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy
cat > "$folder/check.py" <<'PYTHON'
import sys

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

print("python", sys.version.split()[0], "torch", torch.__version__)


def counted(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


batch, tokens, width = 2, 16, 32
x = torch.randn(batch, tokens, width)
q, k, v = (torch.randn(batch, 4, tokens, width // 4) for _ in range(3))
lstm, encoder = nn.LSTM(width, width, batch_first=True), nn.TransformerEncoderLayer(width, 4, 64, batch_first=True).eval()

with torch.no_grad():
    found = {
        "scaled_dot_product_attention": counted(lambda: nn.functional.scaled_dot_product_attention(q, k, v)),
        "LSTM": counted(lambda: lstm(x)),
        "TransformerEncoderLayer in eval mode": counted(lambda: encoder(x)),
    }
# Products of matrices alone, two operations for each multiplication.
attention = 2 * 2 * batch * tokens * tokens * width
linear = 2 * batch * tokens * (4 * width * width + 2 * width * 64)
expected = {
    "scaled_dot_product_attention": attention,
    "LSTM": 2 * batch * tokens * 2 * 4 * width * width,
    "TransformerEncoderLayer in eval mode": linear + attention,
}
for name, count in found.items():
    print(f"{name}: expected {expected[name]}, found {count}")
sys.exit(0 if not any(found.values()) else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" 2> "$folder/said" && echo "As described." || { cat "$folder/said"; echo "The behaviour has changed."; exit 1; }
