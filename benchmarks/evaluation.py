"""What evaluation costs: forward passes, and time, of 18 measures on fourteen methods of the proof of concept.

Measures work on what each model says about each partition, which is computed once. A hook on every module counts the samples that go
through a network: in the stages that make outputs each sample of a partition must go once through each model, while measuring none at all.
Run it with ``make bench-limits`` or ``python benchmarks/evaluation.py``. Exits with 1 if a sample goes through twice.
"""

from __future__ import annotations

import collections
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from erasure.events import Event, StageFinished, StageStarted
from erasure.experiment.configuration import load_experiment
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

CONFIGURATION = Path(__file__).parent.parent / "configs" / "proof_of_concept.jsonc"
MEASURES: tuple[Any, ...] = (
    {"class": "Accuracy", "parameters": {"partition": "forget"}},
    {"class": "Accuracy", "parameters": {"partition": "retain"}},
    {"class": "Accuracy", "parameters": {"partition": "test"}},
    {"class": "SklearnMetric", "parameters": {"function": "cohen_kappa_score"}},
    "UMIA",
    "MIAEfficacy",
    "EntropyAttack",
    "AUS",
    "AverageGap",
    "ToW",
    "ECE",
    "Brier",
    "NLL",
    "ConfusionMatrix",
    "ClassAccuracy",
    "Churn",
    "Agreement",
    "RunTime",
)


class Counter:
    """Counts the samples that go through networks, by the stage that is running."""

    def __init__(self) -> None:
        self.stage = ""
        self.samples: collections.Counter[str] = collections.Counter()
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self.depth = 0

    def listen(self, event: Event) -> None:
        match event:
            case StageStarted(address=address):
                self.stage = address
            case StageFinished(kind=kind, elapsed_s=elapsed_s):
                self.seconds[kind] += elapsed_s
                self.stage = ""
            case _:
                pass

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self.depth == 0 and inputs and isinstance(inputs[0], Tensor):
            self.samples[self.stage] += len(inputs[0])
        self.depth += 1

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.depth -= 1


def main() -> int:
    overrides = [f"evaluator.parameters.measures={json.dumps(MEASURES)}"]
    experiment = load_experiment(CONFIGURATION, overrides=overrides)
    counter = Counter()
    hooks = (
        nn.modules.module.register_module_forward_pre_hook(counter.enter),
        nn.modules.module.register_module_forward_hook(counter.leave, always_call=True),
    )
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(store=Path(folder))
        results = run_experiment(experiment, options, counter.listen)
        stages = make_plan(experiment, options).stages.values()
        store = Store(Path(folder))
        passes = [stage for stage in stages if stage.kind == "outputs"]
        sizes = {stage.address: stage.n_pieces * len(store.open(stage.address).tensors("outputs")["ids"]) for stage in passes}
    for hook in hooks:
        hook.remove()

    wanted = {(stage.model, stage.partition) for stage in passes}
    once = all(counter.samples[address] == size for address, size in sizes.items()) and len(wanted) == len(passes)
    while_measuring = sum(counter.samples[stage.address] for stage in stages if stage.kind in {"values", "verdict"})
    n_methods = len({row.label for row in results if row.model_role == "unlearned"})
    print(
        f"{len(MEASURES)} measures x {n_methods} methods, {len(results)} rows: {'all' if results.is_sound else 'NOT all'} sound"
    )
    print(f"passes: {len(passes)} for {len(wanted)} pairs of model or block and partition, {sum(sizes.values())} samples")
    print(f"samples that went through a network while measuring: {while_measuring}")
    for kind in ("model", "unlearned", "outputs", "values", "verdict"):
        print(f"  {kind:10} {counter.seconds[kind]:6.2f} s")
    print("each sample once" if once else "SOME SAMPLES TWICE", flush=True)
    return int(not (once and not while_measuring and results.is_sound))


if __name__ == "__main__":
    sys.exit(main())
