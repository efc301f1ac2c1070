"""The options that a report names give the very repetitions of the run."""

import pytest
from small import small_experiment

from erasure.engine.recording.evidence import _seed_options
from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions


@pytest.fixture(scope="module")
def experiment():
    return load_experiment(small_experiment())


def parsed(options):
    """Run options as the command line would read them."""
    values = {name: tuple(map(int, text.split(","))) for name, text in zip(options[::2], options[1::2], strict=True)}
    axes = {name.removeprefix("--").removesuffix("-seeds"): seeds for name, seeds in values.items() if name != "--seeds"}
    return RunOptions(seeds=values.get("--seeds"), axes=axes)


@pytest.mark.parametrize(
    ("seeds", "axes", "wanted"),
    [
        (None, {}, []),
        ((0, 1, 2), {}, ["--seeds", "0,1,2"]),
        ((7,), {}, ["--seeds", "7"]),
        (None, {"train": (0, 1, 2)}, ["--train-seeds", "0,1,2"]),
        ((0, 1), {"unlearn": (5, 6)}, ["--seeds", "0,1", "--unlearn-seeds", "5,6"]),
        (None, {"split": (1, 2), "evaluate": (3, 4)}, ["--split-seeds", "1,2", "--evaluate-seeds", "3,4"]),
        ((3, 4), {"split": (1,), "train": (2,), "unlearn": (5, 6)}, None),
        (None, {"split": (1,), "train": (2,), "unlearn": (5, 6), "evaluate": (9,)}, None),
    ],
)
def test_options_of_the_command_give_the_repetitions(experiment, seeds, axes, wanted):
    repetitions = RunOptions(seeds=seeds, axes=axes).repetitions(experiment)
    options = _seed_options(repetitions, experiment)
    assert set(parsed(options).repetitions(experiment)) == set(repetitions)
    if wanted is not None:
        assert options == wanted
