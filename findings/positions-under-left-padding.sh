#!/usr/bin/env bash
# transformers 5.23.0: a plain forward pass of GPT-2 counts positions from the left edge, padding included, whatever the attention mask
# says. The same text padded on the left gives other states; Llama, whose positions are relative, gives the same.
# One would expect the mask to settle it: generate() makes position ids of it, forward() does not.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cat > "$folder/check.py" <<'PYTHON'
import sys

import torch
import transformers

print("python", sys.version.split()[0], "torch", torch.__version__, "transformers", transformers.__version__)
SIZES = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
}
differences = {}
for family, sizes in SIZES.items():
    torch.manual_seed(0)
    settings = transformers.AutoConfig.for_model(family, vocab_size=50, bos_token_id=1, eos_token_id=2, **sizes)
    model = transformers.AutoModel.from_config(settings).eval()
    text = torch.tensor([[5, 6, 7, 8]])
    padding = torch.zeros(1, 3, dtype=torch.int64)
    with torch.no_grad():
        alone = model(input_ids=text).last_hidden_state[0, -1]
        padded = model(
            input_ids=torch.cat([padding, text], 1), attention_mask=torch.cat([padding, torch.ones_like(text)], 1)
        ).last_hidden_state[0, -1]
    differences[family] = float((alone - padded).abs().max())
    print(f"{family}, last token, 3 paddings on the left: expected a difference of 0, found {differences[family]:.2g}")
sys.exit(0 if differences["gpt2"] > 1e-3 and differences["llama"] < 1e-5 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" && echo "As described." || { echo "The behaviour has changed."; exit 1; }
