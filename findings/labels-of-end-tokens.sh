#!/usr/bin/env bash
# Where the token that ends a text also pads (the usual remedy for a tokenizer without padding), the collator for causal language models of
# transformers masks the end of every text: no label asks the model to stop. Expected: only padding is masked; the attention mask tells
# the two apart. Models trained so run on after their answers, and measures of answers punish it. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

print("torch", torch.__version__, "transformers", transformers.__version__)
words = Tokenizer(models.WordLevel({"<end>": 0, "yes": 1, "no": 2, "<unknown>": 3}, unk_token="<unknown>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unknown>")
tokenizer.pad_token = tokenizer.eos_token
batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([tokenizer("yes no <end>"), tokenizer("yes <end>")])
real = batch["attention_mask"] == 1
ends = real & (batch["input_ids"] == tokenizer.eos_token_id)
asked = int((batch["labels"][ends] != -100).sum())
print("ids", batch["input_ids"].tolist(), "attention", batch["attention_mask"].tolist(), "labels", batch["labels"].tolist())
print(f"ends of texts that are a label: expected {int(ends.sum())}, seen {asked}")
sys.exit(0 if asked == 0 and int(ends.sum()) == 2 else 1)
PYTHON
