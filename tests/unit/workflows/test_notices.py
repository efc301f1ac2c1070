"""What is said of a network as it is built is said once for a run, and nowhere else."""

import textwrap
import warnings

from erasure.events import Message
from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment


def test_a_checkpoint_with_one_odd_entry_is_said_once_however_many_networks_are_built(tmp_path, monkeypatch):
    (tmp_path / "odd_weights.py").write_text(
        textwrap.dedent("""
            import warnings
            from dataclasses import dataclass

            from erasure.models.mlp import MLP


            @dataclass(frozen=True, kw_only=True)
            class Odd(MLP):
                def build(self, data):
                    warnings.warn('"w.pt" also holds criterion.weight', stacklevel=2)
                    return super().build(data)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    parts = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
        {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
    ]
    config = {
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": parts},
        "predictor": {"model": {"class": "odd_weights.Odd"}, "epochs": 1},
        "unlearners": ["Finetuning"],
        "evaluator": {"measures": ["Accuracy"], "floor_repeats": 1},
    }
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_experiment(
            load_experiment(config, trust=["odd_weights"]),
            RunOptions(store=tmp_path / "store", seeds=(0, 1)),
            lambda event: said.append(event) if isinstance(event, Message) else None,
        )
    assert [(each.text, each.level) for each in said if "criterion" in each.text] == [
        ('"w.pt" also holds criterion.weight', "info")
    ]
