"""A run that needs nothing more is read and not planned again, and the least change ends that."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

CONFIGURATION = {
    "name": "small",
    "data": {
        "data_source": {"class": "TableFile", "parameters": {"path": ["table.csv"], "label": "y"}},
        "partitions": [
            {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
            {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
        ],
    },
    "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "epochs": 1},
    "unlearners": ["Identity"],
    "evaluator": {"measures": ["Accuracy"], "floor_repeats": 1},
}


def _table(path, seed):
    rows = np.random.default_rng(seed).integers(0, 9, (40, 2))
    path.write_text("a,b,y\n" + "\n".join(f"{a},{b},{(a + b) % 2}" for a, b in rows) + "\n")


def in_a_process(cli, *arguments):
    """A command whose changes of the environment end with it."""
    before = dict(os.environ)
    try:
        return cli(*arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def again(directory, monkeypatch, cli):
    """Runs the experiment; whether it was planned, and what was printed."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    if not (directory / "table.csv").exists():
        _table(directory / "table.csv", 0)
        (directory / "small.json").write_text(json.dumps(CONFIGURATION))
        in_a_process(cli, "run", "small.json", "--no-report", "--store", "store")
    from erasure.workflows import run

    planned = []
    build_plan = run.build_plan
    monkeypatch.setattr(run, "build_plan", lambda *a: planned.append(1) or build_plan(*a))

    def run_again(*options):
        planned.clear()
        code, out, err = in_a_process(cli, "run", "small.json", "--no-report", "--store", "store", *options)
        assert code == 0, err
        return bool(planned), out

    return run_again


def test_what_is_finished_is_read_and_says_the_same(again, directory):
    rows = (directory / "runs/small/rows.csv").read_bytes()
    is_planned, out = again()
    assert not is_planned
    (directory / "runs/small/table.md").unlink()
    is_planned, from_the_plan = again()
    assert is_planned and out == from_the_plan and "results in runs/small" in out
    assert (directory / "runs/small/rows.csv").read_bytes() == rows
    assert not again()[0]


def test_a_directory_is_called_as_it_was_asked_for(again):
    (is_planned, said), (is_planned_again, out) = (again("--output", "./runs/../runs/asked") for _ in range(2))
    assert is_planned and not is_planned_again and out == said


def test_it_needs_no_torch(again, directory):
    again()
    code = "import sys; from erasure.cli import _run; _run({}); print('torch' in sys.modules)"
    arguments = ["run", "small.json", "--no-report", "--store", "store", "--quiet"]
    done = subprocess.run([sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_variables_that_libraries_set_meanwhile_change_nothing(again, directory, monkeypatch):
    from erasure.workflows import run

    run_experiments = run.run_experiments

    def setting(*arguments):
        os.environ["KMP_INIT_AT_FORK"] = "FALSE"
        return run_experiments(*arguments)

    monkeypatch.setattr(run, "run_experiments", setting)
    (directory / "runs/small/table.md").unlink()
    assert again()[0]
    assert not again()[0]


def test_a_report_that_could_not_be_made_is_tried_again(again, directory, monkeypatch, cli):
    tried = []

    def fails(output):
        tried.append(output.name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("erasure.workflows.run.write_page", fails)
    for _ in range(2):
        *_, err = in_a_process(cli, "run", "small.json", "--store", "store", "--output", "reported")
        assert "No report was made" in err
    assert tried == ["reported"] * 2


def test_a_run_whose_files_another_one_replaced_is_planned_again(again, directory, monkeypatch, cli):
    from erasure.workflows import run

    arguments = ["run", "small.json", "--store", "store", "--output", "shared", "--json", "--no-report"]
    other = [*arguments, "--set", "predictor.model.parameters.hidden_sizes=[5]"]
    expected = in_a_process(cli, *arguments)[1]
    (directory / "shared/table.md").unlink()
    drift_warnings = run.drift_warnings

    def meanwhile(*given):  # all files are written, and the run is not remembered yet
        with monkeypatch.context() as patch:
            patch.setattr(run, "drift_warnings", drift_warnings)
            in_a_process(cli, *other)
        return drift_warnings(*given)

    with monkeypatch.context() as patch:
        patch.setattr(run, "drift_warnings", meanwhile)
        assert in_a_process(cli, *arguments)[1] == expected
    assert in_a_process(cli, *arguments)[1] == expected


@pytest.mark.parametrize(
    "change",
    ["data", "result", "object", "missing object", "configuration", "comment", "option", "environment"],
)
def test_any_change_is_seen(again, directory, monkeypatch, change):
    again()
    assert not again()[0]
    options = []
    objects = sorted((directory / "store/objects").rglob("*.safetensors"))
    match change:
        case "data":
            _table(directory / "table.csv", 1)
        case "result":
            (directory / "runs/small/rows.json").write_text("[]")
        case "object":
            content = bytearray(objects[0].read_bytes())
            content[-1] ^= 1
            objects[0].write_bytes(content)
        case "missing object":
            for file in sorted(objects[0].parent.iterdir()):
                file.unlink()
        case "configuration":
            (directory / "small.json").write_text(json.dumps(CONFIGURATION) + "\n\n")
            options = ["--set", "predictor.epochs=2"]
        case "comment":
            (directory / "small.json").write_text(json.dumps(CONFIGURATION) + " // why")
        case "option":
            options = ["--seed", "5"]
        case "environment":
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert again(*options)[0]
    if change == "data":
        _table(directory / "table.csv", 0)
