"""Preprocess steps from the configuration to the result: one meaning of every spelling, an address for every change."""

import json
import re
from pathlib import Path

import pytest
import torch

from erasure.config import load_text
from erasure.errors import ConfigError, DataError
from erasure.events import StageFinished
from erasure.experiment.configuration import load_experiment
from erasure.experiment.schema import configuration_schema
from erasure.registry.upstream import UPSTREAM
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

ROOT = Path(__file__).parents[3]
THEIRS = "erasure.data.preprocessing."

ROWS = [("Rome", "$3.5", "[9, 17]", "good"), ("Oslo", "$8", "[10]", "bad"), ("Rome", "$1", "[7, 8, 9]", "good")]
OURS = [
    {"class": "MoveInputs", "parameters": {"move": "town"}},
    {"class": "RemoveCharacter", "parameters": {"character": "$", "x": True, "columns": ["price"]}},
    {"class": "ParseLists", "parameters": {"max_length": 2, "x": True, "columns": ["hours"]}},
]
UPSTREAMS = [
    {"class": f"{THEIRS}reshape_x_z.reshape_x_z", "parameters": {"keep_as_x": [], "move_to_z": ["town"]}},
    {"class": f"{THEIRS}preprocess.RemoveCharacter", "parameters": {"character": "$", "process_X": "true", "columns": ["price"]}},
    {"class": f"{THEIRS}preprocess.StringToList", "parameters": {"x": True, "max_length": 2, "columns": ["hours"]}},
]


@pytest.fixture
def table(tmp_path):
    """A small table with text columns."""
    lines = [f'{town},{price},"{hours}",{verdict}' for town, price, hours, verdict in ROWS * 12]
    (tmp_path / "shops.csv").write_text("\n".join(["town,price,hours,verdict", *lines]) + "\n")
    return str(tmp_path / "shops.csv")


@pytest.fixture
def configured(table):
    def a_configuration(steps, section=None, **data):
        parameters = {"path": table, "label": "verdict", "features": ["town", "price", "hours"]}
        partitions = [
            {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.75}},
            {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
        ]
        source = {"class": "TableFile", "parameters": parameters | ({} if steps is None else {"preprocess": steps})}
        return {
            "data": {"data_source": source, "partitions": partitions, **({"preprocess": section} if section else {}), **data},
            "predictor": {"model": "MLP", "epochs": 2},
            "unlearners": ["Finetuning"],
            "evaluator": {"measures": ["Accuracy"], "floor_repeats": 0},
            "globals": {"seed": 0},
        }

    return a_configuration


def address(configuration, **options):
    plan = make_plan(load_experiment(configuration, **options), RunOptions())
    return next(stage.address for stage in plan.stages.values() if stage.kind == "data")


def test_every_spelling_has_one_address(configured):
    own = address(configured(OURS))
    assert address(configured(UPSTREAMS)) == own
    assert address(configured(None, OURS)) == own
    assert address(configured(OURS[:1], OURS[1:])) == own
    node = configured(None)
    node["data"]["data_source"] = {
        "class": "Preprocessed",
        "parameters": {"data_source": node["data"]["data_source"], "steps": OURS},
    }
    assert address(node) == own


def test_without_steps_the_address_is_the_source_alone(configured):
    assert address(configured([])) == address(configured(None))


def test_a_change_of_a_step_is_another_address(configured):
    changed = json.loads(json.dumps(OURS).replace('"max_length": 2', '"max_length": 3'))
    assert len({address(configured(steps)) for steps in (None, OURS, changed, OURS[:2], OURS[::-1])}) == 5


def test_an_experiment_with_text_columns_runs_end_to_end(configured, tmp_path):
    experiment = load_experiment(configured(OURS))
    options = RunOptions(store=tmp_path / "store")
    ran = []
    results = run_experiment(experiment, options, lambda event: ran.append(event) if isinstance(event, StageFinished) else None)
    assert results.is_sound
    assert {row.model_role for row in results} >= {"original", "gold"}
    where = address(configured(OURS))
    stored = Store(tmp_path / "store").open(where)
    columns, facts = stored.tensors("columns"), stored.json("dataset")
    assert facts["feature_names"] == ["price", "hours[0]", "hours[1]"]
    assert facts["z_names"] == ["Oslo", "Rome"]
    expected = torch.tensor([[3.5, 9, 17], [8, 10, -1], [1, 7, 8]]).repeat(12, 1)
    assert torch.equal(columns["x.values"], expected)
    assert columns["z"].tolist() == [1, 0, 1] * 12
    assert columns["y"].tolist() == [1, 0, 1] * 12


def test_the_whole_table_can_be_what_inputs_are_standardised_by(configured):
    specs = [
        make_plan(load_experiment(configured(OURS, standardize=value)), RunOptions()).data[0] for value in (True, "all", False)
    ]
    assert [spec.standardize for spec in specs] == ["train", "all", None]
    assert len({spec.inputs_address for spec in specs}) == 3
    assert len({spec.data_address for spec in specs}) == 1


# What is wrong


@pytest.mark.parametrize(
    ("step", "path", "message"),
    [
        ("Encod", "preprocess[1]", 'there is no step called "Encod"; did you mean "Encode"'),
        ({"class": "ParseLists"}, "preprocess[1]", 'the required parameter "max_length" of ParseLists is missing'),
        ({"class": "Encode", "parameters": {"X": True}}, "preprocess[1].parameters.X", "unknown parameter of Encode"),
        ("SCRUB", "preprocess[1]", '"SCRUB" is an unlearner; this place takes a step'),
        ({"class": "MatchPatterns", "parameters": {"patterns": "("}}, "preprocess[1]", "no regular expression"),
    ],
)
@pytest.mark.parametrize("where", ["source", "section"])
def test_a_wrong_step_is_reported_where_it_is_written(configured, step, path, message, where):
    steps = [OURS[0], step]
    with pytest.raises(ConfigError) as error:
        load_experiment(configured(steps) if where == "source" else configured(None, steps))
    (problem,) = error.value.problems
    assert problem.path.endswith(path)
    assert message in str(problem)


def test_a_step_that_fails_names_itself_and_the_source_in_the_file(configured, tmp_path):
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(configured(OURS[:1]), indent=1))
    with pytest.raises(DataError) as error:
        run_experiment(load_experiment(file), RunOptions(store=tmp_path / "store"))
    assert 'text left in the input columns "price", "hours"' in str(error.value)
    assert error.value.problem.path == "data.data_source"
    assert error.value.problem.position.line > 1
    file.write_text(json.dumps(configured(None, [*OURS, {"class": "Add", "parameters": {"add": 1, "x": True, "columns": "no"}}])))
    with pytest.raises(DataError, match=r'preprocess\[3\] \(Add\): x has no column "no"') as error:
        run_experiment(load_experiment(file), RunOptions(store=tmp_path / "store"))
    assert error.value.problem.path == "data.data_source"


# Upstream's spelling


STEPS = {
    "preprocess.Encode": {"process_X": True, "process_y": "true"},
    "preprocess.ListToTensor": {"process_X": True},
    "preprocess.RemoveCharacter": {"character": "$", "process_X": True},
    "preprocess.Add": {"add": -1, "process_y": True},
    "preprocess.StringToList": {"x": True, "y": False, "z": False, "max_length": 4},
    "reshape_x_z.reshape_x_z": {"keep_as_x": [0], "move_to_z": [1]},
    "reshape_y_z.reshape_y_z": {"keep_as_y": 0, "move_to_z": [1]},
    "reshape_y_z.reshape_y_z_legacy": {"keep_as_y": [0, 31], "move_to_z": [1]},
    "reshape_y_z.copy_y_z": {},
    "add_z_label.StringContain": {"contains": ["good", "bad"]},
    "transform_z.PatternMatch": {"patterns": ["^a", "b"]},
    "unify_string_columns.UnifyStringColumns": {"columns": [0, 1]},
    "tokenize_text.TokenizeX": {
        "tokenizer": {
            "class": f"{THEIRS}tokenize_text.TokenizerWrapper",
            "parameters": {
                "tokenizer": "bert-base-uncased",
                "max_length": 64,
                "padding": "max_length",
                "truncation": True,
                "return_tensors": "pt",
            },
        }
    },
    "image_to_tensor.ImageToTensorPreprocess": {},
    "dataset_specific.torchvision.cifar100_to_20.CIFAR100preprocess": {"dim": 20, "method": "coarse"},
    "dataset_specific.celeba_labels.Celeba_labels": {"label_columns": [20, 31]},
    "dataset_specific.celeba_labels.Celeba_multilabel": {"label_columns": [20, 31]},
    "dataset_specific.UCIRepository.IRIS_preprocess.IRISpreprocess": {},
}


@pytest.mark.parametrize("path", STEPS)
def test_every_step_of_upstream_is_understood(configured, path):
    node = {"class": THEIRS + path, "parameters": STEPS[path]}
    (step,) = load_experiment(configured([node])).data.data_source.steps
    assert step.kind == "step"


def test_no_step_of_upstream_is_forgotten():
    theirs = {path.removeprefix(THEIRS) for path, alias in UPSTREAM.items() if alias.kind == "step"}
    assert theirs == set(STEPS)
    assert all(UPSTREAM[THEIRS + path].target for path in theirs)


def test_the_tokenizer_of_upstream_may_be_fetched_and_says_its_length(configured):
    node = {"class": f"{THEIRS}tokenize_text.TokenizeX", "parameters": STEPS["tokenize_text.TokenizeX"]}
    (step,) = load_experiment(configured([node])).data.data_source.steps
    assert (step.tokenizer.name_or_path, step.tokenizer.max_length, step.tokenizer.download) == ("bert-base-uncased", 64, True)


def test_upstreams_iris_has_its_three_classes_in_order(configured, tmp_path):
    folder = tmp_path / "uci" / "53"
    folder.mkdir(parents=True)
    kinds = ["virginica", "setosa", "versicolor", "setosa"]
    rows = [f"{i}.5,{i},1.25,0.5,Iris-{kind}" for i, kind in enumerate(kinds)]
    (folder / "data.csv").write_text("\n".join(["a,b,c,d,class", *rows]) + "\n")
    configuration = configured(None)
    configuration["data"]["data_source"] = {
        "class": "erasure.data.data_sources.UCIRepositoryDataSource.UCIRepositoryDataSource",
        "parameters": {
            "id": 53,
            "label": "class",
            "root": str(tmp_path),
            "preprocess": [{"class": f"{THEIRS}dataset_specific.UCIRepository.IRIS_preprocess.IRISpreprocess"}],
        },
    }
    data = load_experiment(configuration).data.data_source.load()
    assert data.y.tolist() == [2, 0, 1, 0]
    assert data.class_names == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    assert data.x.values[1].tolist() == [1.5, 1, 1.25, 0.5]


@pytest.mark.parametrize("place", ["inside", "beside", "both", "all"])
def test_steps_inside_the_data_set_of_graphs_belong_to_the_source(configured, place):
    pytest.importorskip("torch_geometric")
    inside = {"preprocess": [f"{THEIRS}reshape_y_z.copy_y_z"]} if place != "beside" else {}
    beside = {"preprocess": [{"class": "Add", "parameters": {"add": 0, "y": True}}]} if place != "inside" else {}
    around = {"preprocess": ["Encode"]} if place == "all" else {}
    configuration = configured(None)
    configuration["data"]["data_source"] = {
        "class": "erasure.data.data_sources.TorchGeometricDataSource.TorchGeometricDataSource",
        "parameters": {
            "datasource": {
                "class": "torch_geometric.datasets.TUDataset",
                "parameters": {"root": "there", "name": "MUTAG", **inside},
                **beside,
            },
            **around,
        },
    }
    source = load_experiment(configuration).data.data_source
    expected = {
        "inside": ["CopyLabels"],
        "beside": ["Add"],
        "both": ["CopyLabels", "Add"],
        "all": ["CopyLabels", "Add", "Encode"],
    }
    assert [type(step).__name__ for step in source.steps] == expected[place]
    assert source.data_source.dataset.parameters == {"root": "there", "name": "MUTAG"}


# Functions of one's own


def test_a_function_needs_trust(configured, tmp_path, monkeypatch):
    (tmp_path / "shop_functions.py").write_text("def same(x, y, z, by=0):\n    return x, y, z\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"class": "PerSample", "parameters": {"function": {"class": "shop_functions.same", "parameters": {"by": 2}}}}
    with pytest.raises(ConfigError, match=r"outside the modules that a configuration may name.*--trust shop_functions"):
        load_experiment(configured([*OURS, node]))
    trusted = {"trust": ["shop_functions"]}
    before = address(configured([*OURS, node]), **trusted)
    assert load_experiment(configured([*OURS, node]), **trusted).data.data_source.load().x_shape == (3,)
    node["parameters"]["function"]["parameters"]["by"] = 3
    assert address(configured([*OURS, node]), **trusted) != before
    node["parameters"]["function"]["parameters"] = {"bye": 3}
    with pytest.raises(ConfigError, match="unknown parameter of same"):
        load_experiment(configured([*OURS, node]), **trusted)
    node["parameters"]["function"] = "os.system"
    with pytest.raises(ConfigError, match='add "--trust os"'):
        load_experiment(configured([*OURS, node]), **trusted)
    node["parameters"]["function"] = "erasure.run"
    with pytest.raises(ConfigError, match="not a function of a module that is trusted"):
        load_experiment(configured([*OURS, node]), **trusted)


# Editors and documents


def test_the_editor_knows_the_steps_of_every_source(configured):
    jsonschema = pytest.importorskip("jsonschema")
    schema = configuration_schema()
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(configured(OURS))
    assert validator.is_valid(configured(None, OURS))
    assert not validator.is_valid(configured([{"class": "Encode", "parameters": {"X": True}}]))
    assert not validator.is_valid(configured(["Encod"]))


def test_the_guide_is_true(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    header, *rows = blocks["csv"].strip().splitlines()
    (tmp_path / "shops.csv").write_text("\n".join([header, *rows * 10]) + "\n")
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(load_text(blocks["jsonc"]).root.plain())
    data = experiment.data.data_source.load()
    assert data.feature_names == ("price", "hours[0]", "hours[1]", "hours[2]")
    assert data.x.values[0].tolist() == [3.5, 9, 17, -1]
    assert data.z_names == ("Bergen", "Oslo", "Rome")
    results = run_experiment(experiment, RunOptions(store=tmp_path / "store"))
    assert results.is_sound
    (tmp_path / "shop_rules.py").write_text(blocks["python"])
    (tmp_path / "hours.csv").write_text("opens,closes,verdict\n9,21,good\n8,17,bad\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    table = {"path": "hours.csv", "label": "verdict", "preprocess": [json.loads(blocks["json"])]}
    configuration = {
        **load_text(blocks["jsonc"]).root.plain(),
        "data": {"data_source": {"class": "TableFile", "parameters": table}},
    }
    configuration |= {"unlearners": [], "evaluator": {}, "predictor": {"model": "MLP", "training_set": "all"}}
    late = load_experiment(configuration, trust=["shop_rules"]).data.data_source.load()
    assert late.feature_names == ("opens", "closes", "late")
    assert late.x.values.tolist() == [[9, 21, 1], [8, 17, 0]]
