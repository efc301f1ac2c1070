"""A small experiment that runs in seconds, and the command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def small_experiment(**changes):
    """Breast cancer with a small network: real data, 569 samples, about two seconds."""
    configuration = {
        "name": "small",
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "breast_cancer"}},
            "partitions": [
                {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1},
                },
            ],
        },
        "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [32]}}, "epochs": 20},
        "unlearners": [
            "GoldModel",
            {"class": "Finetuning", "parameters": {"epochs": 2}},
            {"class": "SCRUB", "parameters": {"epochs": 2}},
            {"class": "SSD", "parameters": {"selection_weighting": 2.0}},
            "Identity",
        ],
        "evaluator": {
            "measures": [
                {"class": "Accuracy", "parameters": {"partition": "forget"}},
                {"class": "Accuracy", "parameters": {"partition": "retain"}},
                {"class": "Accuracy", "parameters": {"partition": "test"}},
                "UMIA",
                "AverageGap",
                "RunTime",
            ]
        },
        "globals": {"seed": 0},
    }
    return configuration | changes


def command(*arguments, cwd=None, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "erasure", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )


TIMINGS = {"elapsed_s"}


def without_timings(rows):
    """Records of the rows that must be the same bytes in every run."""
    kept = []
    for row in rows:
        record = row.record()
        if record["unit"] in {"s", "MiB", "x"}:
            record |= {"value": None, "gold": None, "gap": None, "floor": None, "low": None, "high": None, "status": ""}
        kept.append({name: value for name, value in record.items() if name not in TIMINGS})
    return kept
