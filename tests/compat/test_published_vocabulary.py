"""Every class path of the published files with every parameter they give it is accepted: one experiment for each pair."""

import json
from pathlib import Path

import pytest
import upstream_vocabulary as vocabulary

from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.registry.upstream import READ_BY_NAME, SECTIONS, UPSTREAM

PUBLISHED = json.loads(Path(__file__).with_name("published_vocabulary.json").read_text(encoding="utf-8"))
NEEDED = {
    "FileDataSource.CSVDataSource": ("path",),
    "HFDataSource.HFDataSource": ("path", "data_columns", "label"),
    "HFDataSource.IMDBHFDataSource": ("path", "data_columns", "label"),
    "HFDataSource.SpotifyHFDataSource": ("path", "data_columns", "label"),
    "TVDataSource.TVDataSource": ("path",),
    "TorchFileDataSource.TorchFileDataSource": ("path",),
    "TorchGeometricDataSource.TorchGeometricDataSource": ("datasource",),
    "TorchVisionCustomSource.TorchVisionCustomSource": ("path", "file_name", "label"),
    "UCIRepositoryDataSource.UCIRepositoryDataSource": ("id", "label"),
    "DataSplitter.DataSplitterAnyZisInRange": ("parts_names", "z_labels"),
    "DataSplitter.DataSplitterByZ": ("parts_names", "z_labels"),
    "DataSplitter.DataSplitterByZList": ("parts_names", "z_labels"),
    "DataSplitter.DataSplitterClass": ("parts_names", "label"),
    "DataSplitter.DataSplitterConcat": ("parts_names", "concat_splits"),
    "DataSplitter.DataSplitterNSamples": ("parts_names", "n_samples"),
    "DataSplitter.DataSplitterPercentage": ("parts_names", "percentage"),
    "DatasetManager.DatasetManager": ("DataSource", "partitions"),
    "TorchModel.TorchModel": ("model",),
    "TorchModelMultilabel.TorchModelMultilabel": ("model",),
    "add_z_label.StringContain": ("contains",),
    "celeba_labels.Celeba_multilabel": ("label_columns",),
    "preprocess.RemoveCharacter": ("character",),
    "preprocess.StringToList": ("max_length",),
    "reshape_x_z.reshape_x_z": ("move_to_z",),
    "reshape_y_z.reshape_y_z": ("keep_as_y", "move_to_z"),
    "reshape_y_z.reshape_y_z_legacy": ("keep_as_y", "move_to_z"),
    "tokenize_text.TokenizeX": ("tokenizer",),
    "tokenize_text.TokenizerWrapper": ("tokenizer",),
    "unify_string_columns.UnifyStringColumns": ("columns",),
    "lira.Attack": ("shadows",),
    "lira_revised.Attack": ("shadows",),
    "running.ChainOfRunners": ("runners",),
    "SaliencyMapGeneration.SaliencyMapGeneration": ("save_dir", "file_name"),
    "composite.Cascade": ("sub_unlearner",),
    "optim.SGD": ("lr",),
    "datasets.MoleculeNet": ("root", "name"),
    "datasets.TUDataset": ("root", "name"),
}
"""Last parts of a class path to what none of the published files leaves out."""

MADE_ELSEWHERE = (
    ("all_reduced", "other_ids_full"), ("other_ids", "-"), ("forget set", "-"), ("dist_part", "-"), ("shadow_data", "-"),
)  # fmt: skip
CASES = [
    pytest.param(path, name, id=f"{path}, {name}")
    for path, given in PUBLISHED.items()
    for name in (*given, *([] if given else [""]))
]


def holding(path, node):
    """An experiment with the node where the published files have it."""
    written = vocabulary.experiment()
    data, predictor = written["data"]["parameters"], written["predictor"]["parameters"]
    measures = written["evaluator"]["parameters"]["measures"]
    cuts = data["partitions"]
    for names in MADE_ELSEWHERE:
        cuts.append({"class": f"{vocabulary.SPLIT}Percentage", "parameters": {"parts_names": names, "percentage": 0.5}})
    *_, module, name = path.split(".")
    if module == "DatasetManager":
        written["data"] = node
    elif module in {"TorchModel", "TorchModelMultilabel"}:
        written["predictor"] = node
    elif module == "manager":
        written["evaluator"] = node
    elif path.startswith(vocabulary.DATA):
        data["DataSource"] = node
    elif path.startswith("torch_geometric"):
        inner = {"datasource": node}
        data["DataSource"] = {"class": f"{vocabulary.DATA}TorchGeometricDataSource.TorchGeometricDataSource", "parameters": inner}
    elif path.startswith(vocabulary.SPLIT):
        cuts.append(node)
    elif name == "TokenizerWrapper":
        data["DataSource"]["parameters"]["preprocess"] = [
            {"class": f"{vocabulary.STEP}tokenize_text.TokenizeX", "parameters": {"tokenizer": node}}
        ]
    elif path.startswith(vocabulary.STEP):
        data["DataSource"]["parameters"]["preprocess"] = [node]
    elif path.startswith(vocabulary.MODEL):
        predictor["model"] = node
    elif path.startswith("torch.nn"):
        predictor["loss_fn"] = node
    elif path.startswith("torch.optim"):
        predictor["optimizer"] = node
    elif path.startswith(vocabulary.UNLEARN):
        written["unlearners"].append(node)
    elif path.startswith("sklearn"):
        measures.append({"class": f"{vocabulary.EVAL}measures.TorchSKLearn", "parameters": {"function": node}})
    elif name == "Distribution":
        measures.append({"class": f"{vocabulary.EVAL}MIA.lira.Attack", "parameters": {"attack_model": node}})
    elif module == "distances" and name != "ModelDistance":
        measures.append({"class": f"{vocabulary.EVAL}distances.ModelDistance", "parameters": {"function": node}})
    else:
        measures.append(node)
    return written


def written_as(path, name, value):
    """The node with what it needs and one parameter more."""
    module, last = path.split(".")[-2:]
    needed = [each for each in NEEDED.get(f"{module}.{last}", ()) if (each, name) != ("z_labels", "z_label")]
    node = {"class": path, "parameters": {each: PUBLISHED[path][each][0] for each in needed}}
    if name.startswith("beside: "):
        node[name.removeprefix("beside: ")] = value
    elif name:
        node["parameters"][name] = value
    return node


@pytest.mark.parametrize(("path", "name"), CASES)
def test_a_parameter_is_accepted_with_all_values_that_are_published(path, name):
    for value in PUBLISHED[path].get(name, [None]):
        assert load_experiment(holding(path, written_as(path, name, value))), value


@pytest.mark.parametrize("path", PUBLISHED)
def test_all_parameters_are_accepted_together(path):
    given = PUBLISHED[path]
    node = {"class": path, "parameters": {name: values[0] for name, values in given.items() if ":" not in name}}
    if path.endswith("DataSplitterByZ"):
        del node["parameters"]["z_label"]  # no file gives both
    assert load_experiment(holding(path, node))


def test_what_has_no_effect_is_said_with_its_reason():
    for path, given in PUBLISHED.items():
        alias = UPSTREAM.get(path) or SECTIONS.get(path.rpartition(".")[2])
        for name in [] if alias is None else [name for name in given if name in alias.ignored]:
            notices = load_experiment(holding(path, written_as(path, name, given[name][0]))).notices
            assert any(f'"{name}" has no effect: {alias.ignored[name]}' in each.message for each in notices), (path, name)


def test_every_class_path_is_known_or_stands_inside_a_known_one():
    inside = {path for path in PUBLISHED if path.split(".")[0] != "erasure" or ".distances." in path or "Distribution" in path}
    unknown = [path for path in PUBLISHED if path not in {*UPSTREAM, *inside} and path.rpartition(".")[2] not in SECTIONS]
    assert unknown == []
    assert len(PUBLISHED) == 102
    assert sum(len(given) for given in PUBLISHED.values()) == 230


@pytest.mark.parametrize("kind", READ_BY_NAME)
def test_what_a_method_or_measure_does_not_read_may_stand_there(kind):
    # Upstream's classes of these kinds look for what they know among their parameters, and never at the rest.
    paths = [path for path in PUBLISHED if path in UPSTREAM and UPSTREAM[path].kind == kind]
    names = {name: values[0] for path in paths for name, values in PUBLISHED[path].items() if ":" not in name}
    holder, nodes = vocabulary.experiment(), []
    for path in paths:
        node = written_as(path, "", None)
        mine = UPSTREAM[path].vocabulary
        others = {
            name: value
            for name, value in names.items()
            if name not in (*PUBLISHED[path], *mine, "forget_part", "target", "alpha")
        }
        nodes.append(node | {"parameters": others | node["parameters"]})
    if kind == "unlearner":
        holder["unlearners"] = nodes
    else:
        holder["evaluator"]["parameters"]["measures"] = nodes
    notices = [each for each in load_experiment(holder).notices if each.message.endswith("does not read it")]
    assert {each.kind for each in notices} == {"no-effect"}
    said = {path for path in range(len(paths)) if any(f"[{path}]" in each.path for each in notices)}
    assert len(said) >= len(paths) - 3  # the dropped ones say that they are left out


@pytest.mark.parametrize("measure", ["AIN", "RelearnTime"])
def test_the_target_of_a_metric_may_stand_at_measures_whose_own_target_is_something_else(measure):
    holder = vocabulary.experiment()
    path = f"{vocabulary.EVAL}measures.{measure}"

    def loaded(name, **given):
        holder["evaluator"]["parameters"]["measures"] = [{"class": name, "parameters": given}]
        return load_experiment(holder)

    for role in ("unlearned", "original"):
        found = loaded(path, target=role)
        assert found.evaluator.measures == loaded(path).evaluator.measures
        assert any(each.message == f'"target" has no effect: {measure} does not read it' for each in found.notices)
    assert loaded(path, target="loss").evaluator.measures[0].target == "loss"
    with pytest.raises(ConfigError, match='"accuracy" or "loss"'):
        loaded(path, target="retain")
    with pytest.raises(ConfigError, match='"accuracy" or "loss"'):
        loaded(measure, target="unlearned")  # by our own name there is one meaning


def test_a_misspelt_parameter_of_a_published_class_is_an_error():
    written = vocabulary.experiment()
    written["unlearners"] = [{"class": f"{vocabulary.UNLEARN}NegGrad.NegGrad", "parameters": {"epohcs": 3}}]
    with pytest.raises(ConfigError, match=r'"epochs"'):
        load_experiment(written)
