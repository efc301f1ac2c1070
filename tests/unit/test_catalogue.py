"""A component's address is its registered name, so results outlive a move of its code."""

import json
from importlib import import_module

import pytest
from small import command

from erasure.catalogue import BUILTINS, SECTIONS, address_name, present_name

EVERY = [(kind, name, path) for table in (SECTIONS, BUILTINS) for kind, names in table.items() for name, path in names.items()]

METHOD = '''
from dataclasses import dataclass
from typing import ClassVar
from erasure.unlearners.contract import Unlearner

@dataclass(frozen=True, kw_only=True)
class Halve(Unlearner):
    """Halves every weight."""

    reads: ClassVar[frozenset[str]] = frozenset()

    def unlearn(self, model, task):
        for p in model.parameters():
            p.data /= 2
        return model
'''


@pytest.mark.parametrize(("kind", "name", "path"), EVERY, ids=lambda value: str(value))
def test_every_component_of_the_catalogue_goes_by_its_name(kind, name, path):
    module, _, attribute = path.partition(":")
    assert address_name(kind, getattr(import_module(module), attribute)) == f"{kind}:{name}"


def test_no_class_has_two_names():
    paths = [path for _, _, path in EVERY]
    assert len(set(paths)) == len(paths)


def test_a_class_that_nobody_registered_goes_by_its_path():
    class Unknown:
        pass

    assert address_name("measure", Unknown) == f"{__name__}:{Unknown.__qualname__}"


def package(directory, module):
    """A package that registers the method under one name, whatever the module is called."""
    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.py"):
        path.unlink()
    (directory / f"{module}.py").write_text(METHOD)
    about = directory / "halving-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: halving\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[erasure.unlearners]\nHalve = {module}:Halve\n")


def test_a_class_that_moved_finds_its_stored_results(tmp_path):
    parts = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
        {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
    ]
    config = {
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": parts},
        "predictor": {"model": "MLP", "epochs": 1},
        "unlearners": ["Halve"],
        "evaluator": {"measures": ["Accuracy"]},
    }
    (tmp_path / "halve.json").write_text(json.dumps(config))
    package(tmp_path / "packages", "halving_before")
    said(tmp_path, "run", "halve.json", "--quiet", "--no-report")
    package(tmp_path / "packages", "halving_after")
    plan = json.loads(said(tmp_path, "plan", "halve.json", "--json"))
    assert plan["total"]["stages"] > 5
    assert [stage for stage in plan["stages"] if not stage["cached"]] == []


def said(directory, *arguments):
    done = command(*arguments, cwd=directory, path=[directory / "packages"])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_records_of_older_versions_are_read_with_the_names_of_today():
    assert present_name("erasure.measures.attacks.umia:UMIA") == "measure:UMIA"
    assert present_name("mine:Own") == "mine:Own"
