"""``erasure doctor``: facts of this machine, and exit code 1 where nothing can run."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from erasure.cli import doctor_command
from erasure.cli.doctor_command import EXTRAS, REQUIRED

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def facts_of_torch():
    """What a process that imports it says, asked once."""
    return doctor_command._torch()


@pytest.fixture
def known_torch(facts_of_torch, monkeypatch):
    """No test here asks again for what does not change."""
    monkeypatch.setattr(doctor_command, "_torch", lambda: facts_of_torch)


def names(requirements):
    return tuple(re.match(r"[\w-]+", requirement)[0] for requirement in requirements)


def test_the_requirements_are_those_of_the_project():
    assert [f"{name}>={oldest}" for name, oldest in REQUIRED.items()] == PROJECT["dependencies"]
    of_users = {n: names(r) for n, r in PROJECT["optional-dependencies"].items() if n not in {"dev", "docs", "all"}}
    assert of_users == EXTRAS


def test_json_states_the_facts_of_this_machine(cli, in_finished, known_torch):
    code, out, _ = cli("doctor", "--json")
    found = json.loads(out)
    assert code == (1 if found["problems"] else 0) == 0
    assert found["packages"]["numpy"] == version("numpy")
    assert found["torch"]["version"] == torch.__version__
    assert len(found["torch"]["cuda"]) == torch.cuda.device_count()
    assert found["torch"]["sum"] == 3.0
    objects = [each for each in (in_finished / ".erasure" / "store" / "objects").glob("*/*") if each.is_dir()]
    assert found["store"]["objects"] == len(objects) > 0
    assert found["store"]["size"] > 0
    assert found["store"]["writable"]
    for extra, packages in found["extras"].items():
        assert (extra in found["missing"]) == (None in packages.values())


def test_the_page_for_people_names_what_is_missing(cli, tmp_path, monkeypatch, known_torch):
    monkeypatch.setitem(doctor_command.EXTRAS, "vision", ("pillow", "no-such-package"))
    code, out, err = cli("doctor", "--store", tmp_path / "new")
    assert code == 0
    assert err == ""
    assert "without no-such-package" in out
    assert 'pip install "erasure-unlearning[vision]"' in out
    assert "not made yet" in out
    assert "all is well" in out
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_store_is_a_problem(cli, tmp_path, known_torch):
    (tmp_path / "letter.txt").write_text("hello")
    code, out, err = cli("doctor", "--store", tmp_path)
    assert code == 1
    assert str(tmp_path) in err
    assert "1 problem" in out


def test_a_file_in_the_place_of_the_store_is_a_problem(cli, tmp_path, known_torch):
    (tmp_path / "store").write_text("hello")
    code, _, err = cli("doctor", "--store", tmp_path / "store")
    assert code == 1
    assert "store" in err


def test_a_missing_and_an_old_package_are_problems(cli, tmp_path, monkeypatch, known_torch):
    monkeypatch.setitem(doctor_command.REQUIRED, "no-such-package", "1.0")
    monkeypatch.setitem(doctor_command.REQUIRED, "numpy", "999.0")
    code, _, err = cli("doctor", "--store", tmp_path / "new")
    assert code == 1
    assert 'pip install "no-such-package>=1.0"' in err
    assert "numpy" in err
    assert "too old" in err


@pytest.mark.parametrize(
    ("older", "newer"), [("1.26", "1.26.4"), ("2.4", "2.10.0+cpu"), ("1.9", "1.10"), ("2.4.0rc1", "2.4.1")], ids=str
)
def test_versions_compare_by_number(older, newer):
    assert doctor_command._numbers(older) < doctor_command._numbers(newer)


def test_a_torch_that_does_not_load_is_a_problem_and_no_crash(cli, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise OSError('libtorch.so is not there')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    code, out, err = cli("doctor", "--store", tmp_path / "new")
    assert code == 1
    assert "libtorch.so is not there" in err
    assert "torch does not load" in out


def test_the_command_itself_imports_no_torch():
    code = "import sys, erasure.cli.doctor_command; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
