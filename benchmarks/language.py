"""A fine-tuning step of a language model with low-rank updates, beside transformers.Trainer with peft on the same batches.

The network has the size of SmolLM2-135M and random weights in bfloat16; a batch is 4 samples of 64 tokens, of which 32 are answers. Each
side runs in a process of its own on one thread, and they take turns. CPU time counts, since other programs may share the machine, and the
largest memory of the process, libraries included. Run it with ``python benchmarks/language.py``; exits with 1 if a step takes more than
0.8 of the time or 0.7 of the memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, LENGTH, N_PROMPT, RANK = 4, 64, 32, 8
MAX_TIME, MAX_MEMORY = 0.8, 0.7


def network(n_layers: int) -> Any:
    """A network of the size of SmolLM2-135M, with updates."""
    import torch

    from erasure.models.text import library

    transformers = library("transformers", "a benchmark")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=n_layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        pad_token_id=2,
    )
    # Not converted from float32, which would need more memory than a step.
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def tokens(n_steps: int) -> Any:
    """Samples of random tokens."""
    import torch

    return torch.randint(3, 49152, (n_steps * BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


def ours(n_layers: int, n_steps: int, checkpointing: bool = False) -> list[float]:
    """CPU seconds of each step of this package."""
    import torch

    from erasure.functional.tokens import ANSWER, PROMPT, answer_tokens
    from erasure.models.language import AnsweringNetwork, _adapted
    from erasure.training.batches import Batch, Batches, TensorColumn
    from erasure.training.calls import Criterion, Optimizer
    from erasure.training.loop import Trainer

    ids = tokens(n_steps)
    roles = torch.where(torch.arange(LENGTH) < N_PROMPT, PROMPT, ANSWER).expand_as(ids)
    x = torch.stack([ids, roles], dim=1)
    built = network(n_layers)
    if checkpointing:
        built.gradient_checkpointing_enable({"use_reentrant": False})
    model = AnsweringNetwork(_adapted(built, RANK, 2 * RANK))
    trainer = Trainer(model, Optimizer.of("AdamW", lr=1e-4), epochs=1)
    criterion, starts = Criterion("generation"), []

    def loss(batch: Batch) -> torch.Tensor:
        starts.append(time.process_time())
        return criterion.of(model, batch.x, batch.y)

    trainer.train_on(Batches(TensorColumn(x), answer_tokens(x), torch.arange(len(x)), BATCH), loss)
    return [after - before for before, after in itertools.pairwise(starts)]


def theirs(n_layers: int, n_steps: int) -> list[float]:
    """CPU seconds of each step of transformers.Trainer."""
    import torch

    from erasure.models.text import library

    transformers, peft = library("transformers", "a benchmark"), library("peft", "a benchmark")
    ids = tokens(n_steps)
    labels = ids.masked_fill(torch.arange(LENGTH) < N_PROMPT, -100)
    rows = [
        {"input_ids": each, "labels": label, "attention_mask": torch.ones_like(each)}
        for each, label in zip(ids, labels, strict=True)
    ]
    settings = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(network(n_layers), settings)
    found: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            found.append(-time.process_time())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            found[-1] += time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=n_steps,
            learning_rate=1e-4,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        transformers.Trainer(model=model, args=options, train_dataset=rows, callbacks=[Clock()]).train()
    return found


def side(run: Callable[[int, int], list[float]], n_layers: int, n_steps: int) -> None:
    """Print what one process found; the first step, which allocates, is left out."""
    seconds = run(n_layers, n_steps)[1:]
    print(json.dumps({"step_s": min(seconds), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.side:
        side(ours if chosen.side == "ours" else theirs, chosen.layers, chosen.steps)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(chosen.rounds):
        for name, each in found.items():
            command = [
                sys.executable,
                str(Path(__file__)),
                "--side",
                name,
                "--layers",
                str(chosen.layers),
                "--steps",
                str(chosen.steps),
            ]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            each.append(json.loads(done.stdout.strip().splitlines()[-1]))
    print(f"{platform.processor() or platform.machine()}, {chosen.rounds} rounds of {chosen.steps} steps, {chosen.layers} blocks")
    ratios = {}
    for key, unit in (("step_s", "s a step"), ("peak_mib", "MiB at most")):
        mine, others = (statistics.median(each[key] for each in found[name]) for name in ("ours", "theirs"))
        ratios[key] = mine / others
        print(f"{unit}: {mine:.2f} here, {others:.2f} with transformers.Trainer and peft, ratio {ratios[key]:.2f}")
    sys.exit(ratios["step_s"] > MAX_TIME or ratios["peak_mib"] > MAX_MEMORY)


if __name__ == "__main__":
    main()
