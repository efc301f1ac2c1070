"""A check without PyTorch says what a check with PyTorch says, and says nothing where it could be wrong."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from erasure.errors import ConfigError
from erasure.workflows import validation
from erasure.workflows.torch_by_name import SOURCES, TorchNames, without_torch

CONFIGURATIONS = Path(__file__).parents[3] / "configs"
WITHOUT = """
import json, sys
from pathlib import Path
from erasure.errors import ConfigError
from erasure.workflows import validation
from erasure.workflows.torch_by_name import without_torch

def check(file, overrides):
    try:
        return without_torch(lambda: validation._record(Path(file), overrides, ()))
    except ConfigError as error:
        return list(map(repr, error.problems))

print("before", end="")
print(json.dumps([check(*case) for case in json.loads(sys.argv[1])]))
print("torch" in sys.modules)
"""


def test_the_answers_are_those_with_torch():
    cases = [
        (str(CONFIGURATIONS / "proof_of_concept.jsonc"), []),
        (str(CONFIGURATIONS / "breast_cancer.jsonc"), ["predictor.parameters.optimizer.parameters.momentun=1", "globals.seed=a"]),
        (str(CONFIGURATIONS / "breast_cancer.jsonc"), ["predictor.parameters.optimizer.class=Adagrad"]),
        (str(CONFIGURATIONS / "breast_cancer.jsonc"), ["predictor.parameters.optimizer.parameters.lr=-1"]),
    ]
    done = subprocess.run([sys.executable, "-c", WITHOUT, json.dumps(cases)], capture_output=True, text=True, check=True)
    answers, is_imported = done.stdout.removeprefix("before").splitlines()
    valid, wrong, *need_torch = json.loads(answers)
    assert valid == json.loads(json.dumps(validation._record(Path(cases[0][0]), [], ())))
    with pytest.raises(ConfigError) as caught:
        validation._record(Path(cases[1][0]), cases[1][1], ())
    assert wrong == list(map(repr, caught.value.problems))
    assert len(wrong) > 1
    assert need_torch == [None, None]
    assert is_imported == "False"


@pytest.mark.parametrize("path", SOURCES)
def test_signatures_and_bases_are_those_of_torch(path):
    home, _, name = path.rpartition(".")
    real = getattr(importlib.import_module(home), name)
    named = TorchNames().of(path, inspect.currentframe())

    def listed(cls):
        return [(each.name, each.kind, each.default) for each in inspect.signature(cls).parameters.values()]

    assert listed(named) == listed(real)
    assert issubclass(real, getattr(importlib.import_module(named.__base__.__module__), named.__base__.__name__))


def test_closed_streams_are_no_reason_to_fail():
    config = str(CONFIGURATIONS / "breast_cancer.jsonc")
    program = f"import sys\nsys.stdout = sys.stderr = None\n{WITHOUT[: WITHOUT.index('print')]}\nassert check({config!r}, [])['labels']\n"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_where_torch_is_imported_nothing_is_tried():
    importlib.import_module("torch")
    assert without_torch(lambda: pytest.fail("tried")) is None
