"""What the verdicts of a large report cost: 15 methods, 60 values, 10 originals with four further golds each.

``python benchmarks/judging.py`` counts CPU seconds of one thread, and takes the best of some rounds. Exits with 1 above a second.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

from erasure.analysis.gaps import RolePartitions
from erasure.analysis.verdicts import judge_all
from erasure.records.rows import ModelRole, Row

LIMIT_S = 1.0
N_METHODS, N_VALUES, N_ORIGINALS, N_GOLDS = 15, 60, 10, 4
PARTITIONS = ("forget", "retain", "test")


def report(seed: int = 0) -> list[Row]:
    """Rows of a report in which every method is retraining, and the original knows more."""
    generator = np.random.default_rng(seed)

    def of(label: str, model: ModelRole, original: int, number: int | None = None, shift: float = 0.0) -> list[Row]:
        return [
            Row(
                experiment="made up",
                dataset="made up",
                unlearner=label if model == "unlearned" else "",
                label=label,
                model_role=model,
                measure=f"value {place // len(PARTITIONS)}",
                partition=PARTITIONS[place % len(PARTITIONS)],
                value=float(value),
                ideal="gold",
                indicates="knowledge" if not place % len(PARTITIONS) else "",
                seed_split=0,
                seed_train=original,
                number=number,
            )
            for place, value in enumerate(generator.normal(shift, size=N_VALUES))
        ]

    rows: list[Row] = []
    for original in range(N_ORIGINALS):
        rows += of("original", "original", original, shift=3.0)
        for number in range(N_GOLDS + 1):
            rows += of("gold", "gold", original, number)
        for method in range(N_METHODS):
            rows += of(f"method {method}", "unlearned", original)
    return rows


def main() -> int:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows, roles = report(), RolePartitions(sizes=dict.fromkeys(PARTITIONS, 1000))
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        judged = judge_all(rows, roles)
        seconds.append(time.process_time() - start)
    accused = sum(j.tested is not None and j.tested.is_accused for j in judged.verdicts)
    best = min(seconds)
    missed = best > LIMIT_S
    print(
        f"{N_METHODS} methods, {N_VALUES} values, {N_ORIGINALS} originals: {best:.2f} s of CPU time (limit {LIMIT_S:.0f} s), "
        f"{accused} of {N_METHODS} retrained methods accused{'  MISSED' if missed else ''}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
