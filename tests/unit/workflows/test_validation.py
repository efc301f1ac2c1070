"""What was found valid is remembered as long as nothing that decides it changes, and problems never are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from erasure.errors import ConfigError
from erasure.memory import memory_directory
from erasure.workflows import validation
from erasure.workflows.validation import validated

CONFIGURATION = """{
  // one comment
  "data": {
    "data_source": {"class": "Sklearn", "parameters": {"name": "iris"}},
    "partitions": [
      {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
      {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}},
    ],
  },
  "predictor": {"model": "MLP", "epochs": EPOCHS},
  "unlearners": ["GoldModel", "Identity"],
  "evaluator": {"measures": ["UMIA"]},
}"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "small.jsonc"
    file.write_text(CONFIGURATION.replace("EPOCHS", "2"))
    return file


@pytest.fixture
def checks(monkeypatch):
    """How often a configuration was really checked."""
    counted = []
    checked = validation._checked
    monkeypatch.setattr(validation, "_checked", lambda *a: counted.append(a) or checked(*a))
    return counted


def test_the_second_answer_is_the_first_without_checking(config, checks):
    first = validated(config)
    assert validated(config) == first
    assert len(checks) == 1
    assert first["labels"] == ["GoldModel", "Identity"]


def test_changed_values_positions_and_overrides_are_checked(config, checks):
    validated(config)
    config.write_text(CONFIGURATION.replace("EPOCHS", "3"))
    assert validated(config)["experiment"]["predictor"]["parameters"]["epochs"] == 3
    config.write_text("\n" + CONFIGURATION.replace("EPOCHS", "3"))
    validated(config)
    validated(config, ["globals.seed=4"])
    assert len(checks) == 4


def test_changed_code_is_noticed(config, checks, monkeypatch):
    validated(config)
    monkeypatch.setattr(validation, "_own_code", lambda: iter([("component.py", 1, 2)]))
    validated(config)
    monkeypatch.setattr(validation, "_packages", lambda: {"torch-99.dist-info"})
    validated(config)
    assert len(checks) == 3


def test_problems_and_trusted_modules_are_never_remembered(config, checks):
    config.write_text(CONFIGURATION.replace("EPOCHS", "-1"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="epochs"):
            validated(config)
    config.write_text(CONFIGURATION.replace("EPOCHS", "2"))
    for _ in range(2):
        validated(config, trust=["json"])
    assert len(checks) == 4
    assert not memory_directory("validated").exists()


def test_a_damaged_memory_is_no_memory(config, checks):
    first = validated(config)
    (file,) = memory_directory("validated").iterdir()
    kept = file.read_text()
    for text in ("", "{", "[]", "3", "[" * 100_000, json.dumps({"labels": []}), kept.replace("GoldModel", "GoldModem")):
        file.write_text(text)
        assert validated(config) == first
    assert len(checks) == 8


def test_files_of_weights_are_looked_at_each_time(config, checks, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"made up")
    model = {"class": "TimmModel", "parameters": {"name": "resnet18", "weights": str(weights)}}
    assert validated(config, [f"predictor.model={json.dumps(model)}"])
    weights.unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        validated(config, [f"predictor.model={json.dumps(model)}"])
    assert len(checks) == 2


def test_a_relative_cache_folder_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert memory_directory("validated") == Path("/home/of/somebody/.cache/erasure/validated")


def test_a_place_that_cannot_be_written_is_no_error(config, checks, tmp_path, monkeypatch):
    expected = validated(config)
    (tmp_path / "plain").write_text("a file where a folder is asked for")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain" / "cache"))
    for _ in range(2):
        assert validated(config) == expected
    assert len(checks) == 3
    assert (tmp_path / "plain").read_text() == "a file where a folder is asked for"


def test_without_a_home_nothing_is_remembered(config, checks, monkeypatch):
    def expanduser(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert validated(config) == validated(config)
    assert len(checks) == 2


def test_a_remembered_answer_needs_no_torch(config):
    validated(config)
    program = (
        "import sys\nfrom erasure.cli import main\n"
        f"sys.argv = ['erasure', 'validate', {str(config)!r}, '--explain']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is valid: 2 unlearners" in done.stdout
