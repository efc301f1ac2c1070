"""Components of one's own that are wrong: each mistake gets a sentence with its place, and is not called a bug of ours."""

import re

import pytest
from small import command, small_experiment

OWN = """
from dataclasses import dataclass

from torch import nn

from erasure.extend import DataSource, Measure, Splitter, Unlearner, Value


@dataclass(frozen=True, kw_only=True)
class Dividing(DataSource):
    def load(self):
        return 1 / 0


@dataclass(frozen=True, kw_only=True)
class Empty(DataSource):
    def load(self):
        return None


@dataclass(frozen=True, kw_only=True)
class Lists(Splitter):
    def split(self, data, partitions, generator):
        return [1, 2], [3]


@dataclass(frozen=True, kw_only=True)
class OnePart(Splitter):
    def split(self, data, partitions, generator):
        return (partitions[self.ref_data],)


class Unmade(nn.Module):
    def __init__(self):
        {}["width"]


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return {}["x"]


@dataclass(frozen=True, kw_only=True)
class Missing(Unlearner):
    def unlearn(self, model, context):
        return model.gone


@dataclass(frozen=True, kw_only=True)
class Asking(Measure):
    def requests(self, subject):
        raise ValueError("nothing to ask for")

    def measure(self, evaluation):
        return []


@dataclass(frozen=True, kw_only=True)
class Number(Measure):
    def measure(self, evaluation):
        return 3


@dataclass(frozen=True, kw_only=True)
class Text(Measure):
    def measure(self, evaluation):
        return [Value(value="high")]
"""


CUT = {"parts_names": ["forget", "retain"], "ref_data": "train"}
SPLIT = {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}}


def of_data(source="Sklearn", splitter="Percentage"):
    named = {"name": "breast_cancer"} if source == "Sklearn" else {}
    cut = CUT | ({"percentage": 0.1} if splitter == "Percentage" else {})
    partitions = [SPLIT, {"class": splitter, "parameters": cut}]
    return {"data": {"data_source": {"class": source, "parameters": named}, "partitions": partitions}}


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        (of_data("own.Dividing"), 1, r"error: ZeroDivisionError: division by zero \(line 11 of own\.py\)"),
        (of_data("own.Empty"), 2, r"data\.data_source: Empty\.load\(\) returned NoneType; it must return a Dataset"),
        (of_data(splitter="own.Lists"), 2, r"partitions\[1\].*a tensor of ids .* for each of 2 parts; it returned list, list"),
        (of_data(splitter="own.OnePart"), 2, r"for each of 2 parts; it returned torch\.int64 of shape \(398,\)"),
        ({"predictor": {"model": "own.Unmade"}}, 2, r"own\.Unmade cannot be made: KeyError: 'width' \(line 3\d of own\.py\)"),
        (
            {"predictor": {"model": "own.Failing"}},
            2,
            r"the model fails on the first samples: KeyError: 'x' \(line \d+ of own\.py\)",
        ),
        ({"predictor": {"model": "own.Nothing"}}, 2, r'there is no "Nothing" in own'),
        ({"unlearners": ["own.Missing"]}, 1, r"failed: unlearn Missing: AttributeError: .* 'gone' \(line \d+ of own\.py\)"),
        ({"evaluator": {"measures": ["own.Asking"]}}, 1, r"error: ValueError: nothing to ask for \(line \d+ of own\.py\)"),
        ({"evaluator": {"measures": ["own.Number"]}}, 1, r"Number must return a list of values \(Value\); it returned int"),
        ({"evaluator": {"measures": ["own.Text"]}}, 1, r"a value of Text must be a number; it is 'high'"),
        (
            {"unlearners": ["broken.Method"]},
            2,
            r'"broken\.Method" cannot be imported: ZeroDivisionError: .*\(line 1 of broken\.py\)',
        ),
        ({"unlearners": ["untidy.Method"]}, 2, r'"untidy\.Method" cannot be imported: SyntaxError: .*\(line 1 of .*untidy\.py\)'),
    ],
)
def test_a_mistake_gets_a_sentence_with_its_place(changed, code, said, write_config, tmp_path, monkeypatch):
    for name, text in {"own": OWN.lstrip(), "broken": "1 / 0", "untidy": "def"}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.delenv("ERASURE_TRACEBACK", raising=False)
    small = small_experiment(unlearners=["Identity"], evaluator={"measures": ["Accuracy"], "floor_repeats": 0})
    path = write_config(small | {"predictor": {"model": "MLP", "epochs": 1}} | changed)
    trust = [option for name in ("own", "broken", "untidy") for option in ("--trust", name)]
    done = command("run", path, *trust, "--store", "store", "--output", "out", cwd=tmp_path)
    printed = " ".join((done.stdout + done.stderr).split())
    assert re.search(said, printed), printed
    assert done.returncode == code
    assert "bug in ERASURE" not in printed
    assert "Training itself has failed" not in printed
