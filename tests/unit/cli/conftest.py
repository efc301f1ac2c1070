"""A finished run that many tests look at, and the command line in this process."""

import json

import pytest

from erasure.cli import _run


def tiny_experiment(**changes):
    """Iris, one epoch, no noise floor: about a second."""
    partitions = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
        {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
    ]
    configuration = {
        "name": "tiny",
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": partitions},
        "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "epochs": 1},
        "unlearners": ["Identity"],
        "evaluator": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}], "floor_repeats": 0},
        "globals": {"seed": 0},
    }
    return configuration | changes


@pytest.fixture
def tiny():
    """The configuration, with changes."""
    return tiny_experiment


@pytest.fixture
def write_config(tmp_path, monkeypatch):
    """Writes a configuration into the working directory, which is a fresh one, and gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(configuration=None, name="config.jsonc"):
        text = json.dumps(tiny_experiment() if configuration is None else configuration, indent=1)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


@pytest.fixture
def cli(capsys):
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        code = _run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A directory with a configuration, its store and the results of a run; tests only read it."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "config.jsonc").write_text(json.dumps(tiny_experiment()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert _run(["run", "config.jsonc", "--quiet"]) == 0
    return directory


@pytest.fixture
def in_finished(finished, monkeypatch):
    """The same, as the working directory."""
    monkeypatch.chdir(finished)
    return finished
