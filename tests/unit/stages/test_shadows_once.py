"""A shadow model that attacks with different numbers of shadows have in common is trained once, where networks are trained one by one."""

import pytest
import torch
from small import small_experiment

from erasure.experiment.configuration import load_experiment
from erasure.stages.session import Session
from erasure.store import Store
from erasure.training.ensemble import choice
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment


def shadows(store, numbers):
    """Weights of the blocks of trained shadows, by their size."""
    configuration = small_experiment(unlearners=[])
    configuration["evaluator"] = {
        "measures": [{"class": kind, "parameters": {"n_shadows": number}} for kind, number in numbers],
        "floor_repeats": 0,
    }
    experiment, options = load_experiment(configuration), RunOptions(store=store)
    assert run_experiment(experiment, options).is_sound
    stages = [stage for stage in make_plan(experiment, options).stages.values() if stage.name.startswith("train shadows")]
    blocks = [stage for stage in stages if "draws" not in stage.content()["samples"]]
    return {len(stage.block.requests): Store(store).open(stage.address).tensors("models") for stage in blocks}


@pytest.mark.parametrize(
    "limit", [0, pytest.param(choice.MAX_PARAMETERS, marks=pytest.mark.nightly)], ids=["one by one", "in stacks"]
)
def test_shadows_of_a_smaller_number_are_those_of_the_larger_one(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(choice, "MAX_PARAMETERS", limit)
    trained, train = [], Session.trained

    def counted(session, data, ids, seed, **named):
        trained.append(seed)
        return train(session, data, ids, seed, **named)

    monkeypatch.setattr(Session, "trained", counted)
    few = shadows(tmp_path / "few", [("U-LiRA", 4)])[4]
    n_few = len(trained)
    both = shadows(tmp_path / "both", [("LiRA", 6), ("U-LiRA", 4)])
    # Original, gold, four shadows and the four that gold's value is calibrated on; then two more shadows.
    assert (n_few, len(trained) - n_few) == ((10, 12) if limit == 0 else (2, 2))
    assert both.keys() == {4, 6}
    for name, values in few.items():
        assert torch.equal(both[4][name], values)
        torch.testing.assert_close(both[6][name][:4], values, atol=1e-6 if limit else 0.0, rtol=1e-5 if limit else 0.0)
