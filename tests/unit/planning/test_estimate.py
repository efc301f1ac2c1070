"""What stages will cost, and how long a run still takes."""

import pytest
from small import small_experiment

import erasure
from erasure.events import TimeLeft
from erasure.experiment.configuration import load_experiment
from erasure.planning.estimate import Cost, Forecast, costs, estimate
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment


class Clock:
    """Seconds that go by when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def stages(tmp_path):
    configuration = small_experiment(unlearners=["Finetuning", "Identity"])
    experiment = load_experiment(configuration, overrides=["evaluator.floor_repeats=0"])
    plan = make_plan(experiment, RunOptions(store=tmp_path, axes={"train": (0, 1)}))
    return list(plan.stages.values())


def test_nothing_is_foretold_before_a_model_was_trained(stages):
    forecast = Forecast(stages, {}, Clock())
    assert forecast.remaining_s is None
    first = next(stage for stage in stages if stage.kind == "model")
    forecast.finished(first.address, 2.0)
    count = {kind: sum(stage.kind == kind for stage in stages) for kind in ("model", "unlearned")}
    # Every other training is taken to be as long as the first, unlearning a tenth; measuring, of which nothing is known, takes no time.
    assert forecast.remaining_s == pytest.approx(2.0 * (count["model"] - 1) + 0.2 * count["unlearned"])


def test_golds_that_are_trained_together_are_foretold_from_one_that_was_alone(tmp_path):
    experiment = load_experiment(small_experiment(), overrides=["evaluator.floor_repeats=4"])
    stages = make_plan(experiment, RunOptions(store=tmp_path)).stages.values()
    golds = [stage for stage in stages if stage.kind == "models"]
    original = next(stage for stage in stages if stage.kind == "model")
    assert [stage.name for stage in golds] == ["train golds 1–4"]
    forecast = Forecast([original, *golds], {}, Clock())
    forecast.finished(original.address, 2.0)
    assert forecast.remaining_s == pytest.approx(2.0 * 4 * 0.3)


def test_the_like_of_a_stage_comes_before_its_family(stages):
    one = next(stage for stage in stages if stage.kind == "model")
    family = one.signature.partition(" #")[0]
    assert estimate({family: Cost(7.0, None, 1)}, one.signature).elapsed_s == 7.0
    assert estimate({family: Cost(7.0, None, 1), one.signature: Cost(3.0, None, 1)}, one.signature).elapsed_s == 3.0
    assert estimate({}, one.signature) is None
    assert Forecast([one], {family: Cost(7.0, None, 1)}, Clock()).remaining_s == 7.0
    assert Forecast([one], {family: Cost(7.0, None, 1), one.signature: Cost(3.0, None, 1)}, Clock()).remaining_s == 3.0


def test_the_pace_of_the_run_counts(stages):
    trained = [stage for stage in stages if stage.kind == "model"]
    assert len(trained) >= 3
    clock = Clock()
    forecast = Forecast(trained, {}, clock)
    for stage in trained[:2]:
        clock.now += 3.0  # two at a time: 6 seconds of work in 3 of the clock
        forecast.finished(stage.address, 6.0)
    assert forecast.remaining_s == pytest.approx(6.0 * (len(trained) - 2) / 2)
    for stage in trained[2:]:
        forecast.finished(stage.address, 6.0)
    assert forecast.remaining_s == 0
    forecast.finished("unknown", 1.0)
    assert forecast.remaining_s == 0


def test_nothing_is_learned_from_a_failure(stages):
    trained = [stage for stage in stages if stage.kind == "model"]
    forecast = Forecast(trained, {}, Clock())
    forecast.finished(trained[0].address, 4.0)
    forecast.failed(trained[1].address)
    assert forecast.remaining_s == 4.0 * (len(trained) - 2)


def test_a_finished_run_foretells_an_equal_one_and_its_neighbours(tmp_path):
    configuration = small_experiment(unlearners=["Identity"])
    erasure.run(configuration, store=tmp_path / "store")
    past = costs(Store(tmp_path / "store"))
    options = RunOptions(store=tmp_path / "store", seeds=(7,))
    plan = make_plan(load_experiment(configuration), options)
    assert all(stage.signature in past for stage in plan.stages.values())
    other = make_plan(load_experiment(configuration, overrides=["predictor.epochs=9"]), options)
    trained = [stage for stage in other.stages.values() if stage.kind == "model"]
    assert trained
    assert all(stage.signature not in past and estimate(past, stage.signature) is not None for stage in trained)


def test_a_run_says_how_long_it_still_takes(tmp_path):
    heard = []
    experiment = load_experiment(small_experiment(unlearners=["Finetuning"]))
    run_experiment(experiment, RunOptions(store=tmp_path / "store"), heard.append)
    said = [event.seconds for event in heard if isinstance(event, TimeLeft)]
    assert said
    assert all(0 <= seconds < 600 for seconds in said)
    heard.clear()
    run_experiment(experiment, RunOptions(store=tmp_path / "store"), heard.append)
    assert not any(isinstance(event, TimeLeft) for event in heard)
