import json

import pytest
from small import small_experiment

from erasure.errors import ConfigError
from erasure.experiment.sweep_section import load_sweep
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan
from erasure.workflows.sweep import run_sweep

EPOCHS, FORGET = "unlearners[1].parameters.epochs", "data.partitions[1].parameters.percentage"


def _sweep(**section):
    configuration = small_experiment(sweep=section)
    configuration["predictor"]["epochs"] = 2
    return configuration


def _problems(**section):
    with pytest.raises(ConfigError) as caught:
        load_sweep(_sweep(**section))
    return [str(problem) for problem in caught.value.problems]


def test_a_grid_is_every_combination_in_order():
    sweep = load_sweep(_sweep(over={EPOCHS: [1, 2], FORGET: [0.1, 0.2]}))
    assert [dict(point.settings) for point in sweep.points] == [
        {EPOCHS: 1, FORGET: 0.1},
        {EPOCHS: 1, FORGET: 0.2},
        {EPOCHS: 2, FORGET: 0.1},
        {EPOCHS: 2, FORGET: 0.2},
    ]
    assert sweep.points[1].label == "epochs=1, percentage=0.2"
    assert [point.experiment.unlearners[1].unlearner.epochs for point in sweep.points] == [1, 1, 2, 2]


def test_points_are_taken_as_they_are():
    sweep = load_sweep(_sweep(points=[{EPOCHS: 3}, {FORGET: 0.3, "globals.seed": 5}]))
    assert [point.label for point in sweep.points] == ["epochs=3", "percentage=0.3, seed=5"]
    assert sweep.points[1].experiment.globals.seed == 5


def test_random_settings_are_in_their_ranges_and_the_same_for_the_same_seed():
    section = {
        "mode": "random",
        "trials": 30,
        "over": {EPOCHS: {"low": 1, "high": 4}, FORGET: {"low": 0.01, "high": 0.5, "log": True}, "globals.seed": [7, 8]},
    }
    first, again = load_sweep(_sweep(**section)), load_sweep(_sweep(**section))
    assert [point.settings for point in first.points] == [point.settings for point in again.points]
    assert {point.settings[EPOCHS] for point in first.points} == {1, 2, 3, 4}
    assert all(0.01 <= point.settings[FORGET] <= 0.5 for point in first.points)
    assert sum(point.settings[FORGET] < 0.07 for point in first.points) > 8  # half of them, on a logarithmic scale
    assert load_sweep(_sweep(**{**section, "seed": 1})).points[0].settings != first.points[0].settings


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "over maps configuration paths to values"),
        ({"over": {EPOCHS: 3}}, "expected a list of values"),
        ({"over": {EPOCHS: []}}, "expected a list of values"),
        ({"over": {EPOCHS: [1]}, "mode": "gird"}, 'mode is "grid", "random" or "list"'),
        ({"ovre": {EPOCHS: [1]}}, 'did you mean "over"'),
        ({"over": {EPOCHS: [1]}, "seeds": {"trian": [0]}}, 'did you mean "train"'),
        ({"over": {EPOCHS: [1]}, "seeds": {"train": [-1]}}, "whole numbers from 0"),
        ({"mode": "random", "over": {EPOCHS: {"low": 3, "high": 1}}}, "low must be below high"),
        ({"mode": "random", "over": {EPOCHS: {"low": 0, "high": 1, "log": True}}}, "above 0 on a logarithmic scale"),
        ({"mode": "random", "trials": 0, "over": {EPOCHS: [1]}}, "a whole number from 1"),
        ({"points": [3]}, "a setting maps configuration paths to values"),
        ({"over": {EPOCHS: [1, -1]}}, "in the sweep, at epochs=-1"),
    ],
)
def test_a_bad_section_is_explained(section, said):
    assert any(said in problem for problem in _problems(**section))


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ('"over": {\n"unlearners[1].parameters.epochz": [1, 2]\n}', 3),
        ('"over": {\n"globals.seed": [1],\n"unlearnerz[1].parameters.epochs": [1, 2]}', 4),
        ('"points": [\n{"globals.seed": 1},\n{"unlearners[1].parameters.epochs": -1}\n]', 4),
    ],
)
def test_a_bad_setting_is_found_where_the_section_has_it(tmp_path, section, line):
    file = tmp_path / "swept.jsonc"
    text = json.dumps(small_experiment())[:-1]
    file.write_text(f'{text}, "sweep": {{\n{section}}}}}', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_sweep(file)
    (problem,) = caught.value.problems
    assert (problem.position.file, problem.position.line) == (str(file), line)


def test_settings_share_what_does_not_depend_on_them():
    sweep = load_sweep(_sweep(over={EPOCHS: [1, 2, 3]}))
    options = RunOptions()
    plans = [make_plan(point.experiment, options) for point in sweep.points]
    together = {address: stage for plan in plans for address, stage in plan.stages.items()}
    assert sum(stage.kind == "model" for stage in together.values()) == sum(
        stage.kind == "model" for stage in plans[0].stages.values()
    )
    assert sum(stage.name.startswith("unlearn Finetuning") for stage in together.values()) == 3


def test_axes_are_swept_on_their_own(tmp_path):
    configuration = _sweep(over={EPOCHS: [1, 2]}, seeds={"unlearn": [0, 1], "train": [3]})
    results = run_sweep(load_sweep(configuration), RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False))
    assert not results.failures
    assert {(row.seed_split, row.seed_train, row.seed_unlearn) for row in results if row.label == "Finetuning"} == {
        (0, 3, 0),
        (0, 3, 1),
    }
    assert {row.experiment for row in results} == {"small (epochs=1)", "small (epochs=2)"}
    points = json.loads((tmp_path / "out" / "points.json").read_text())
    assert [point["settings"] for point in points] == [{EPOCHS: 1}, {EPOCHS: 2}]
    assert (tmp_path / "out" / "points" / points[0]["folder"] / "rows.json").exists()


def test_a_setting_that_fails_costs_the_others_nothing(tmp_path):
    optimizer = "unlearners[1].parameters.optimizer"
    settings = [{optimizer: {"class": "SGD", "parameters": {"lr": lr}}} for lr in (0.01, 1e30)]
    options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False)
    results = run_sweep(load_sweep(_sweep(points=settings)), options)
    good, bad = (
        json.loads((tmp_path / "out" / "points" / point["folder"] / "report.json").read_text()).get("failures", [])
        for point in json.loads((tmp_path / "out" / "points.json").read_text())
    )
    assert good == []
    assert bad, results.failures
    assert {f"{failure['stage']} of small (SGD(lr=1e+30))" for failure in bad} == set(results.failures)
    assert len({row.experiment for row in results if row.status == "failed"}) == 1


def test_repetitions_of_one_original_count_as_one(tmp_path):
    configuration = _sweep(over={EPOCHS: [2]})
    one = run_sweep(load_sweep(configuration), RunOptions(store=tmp_path / "store", axes={"unlearn": (0, 1, 2)}))
    two = run_sweep(load_sweep(configuration), RunOptions(store=tmp_path / "store", axes={"unlearn": (0, 1, 2), "train": (0, 1)}))
    n = [{row.n for row in found if row.label == "Finetuning" and row.measure == "accuracy"} for found in (one, two)]
    assert n == [{3}, {2}]


def test_a_sweep_ends_with_one_page_unless_none_is_wanted(tmp_path):
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    configuration = small_experiment(unlearners=["Identity"]) | {"sweep": {"over": {"predictor.epochs": [1, 2]}}}
    page = tmp_path / "out" / "report.html"
    run_sweep(load_sweep(configuration), RunOptions(store=tmp_path / "store", output=tmp_path / "out"))
    assert "epochs" in page.read_text("utf-8")
    run_sweep(load_sweep(configuration), RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False))
    assert not page.exists()
