"""Every class path of the published configurations is a component of ours, with all parameters that are documented for it."""

import json

import pytest
import upstream_vocabulary as vocabulary

from erasure.cli import _run
from erasure.component import canonical
from erasure.config import Notice
from erasure.data.sources.hugging_face import HuggingFace
from erasure.data.sources.image_table import ImageTable
from erasure.data.sources.uci import UCI
from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.measures.attacks.lira import LiRA
from erasure.models.graph import GNN
from erasure.models.mlp import MLP
from erasure.models.text import TextEncoder
from erasure.models.torchvision_model import TorchVisionModel
from erasure.registry.lookup import Registry
from erasure.registry.upstream import SECTIONS, UPSTREAM
from erasure.training.predictor import ModelInput

M = vocabulary.MODEL
KINDS = {
    "source": vocabulary.SOURCES,
    "splitter": vocabulary.SPLITTERS,
    "model": vocabulary.MODELS,
    "unlearner": vocabulary.UNLEARNERS,
    "measure": vocabulary.MEASURES,
    "step": vocabulary.STEPS,
}
CASES = [pytest.param(kind, path, id=path) for kind, nodes in KINDS.items() for path in nodes]


def holding(kind, path, parameters):
    """The experiment with one node replaced, or one more."""
    written = vocabulary.experiment()
    node = {"class": path, "parameters": parameters}
    if kind == "source":
        written["data"]["parameters"]["DataSource"] = node
    elif kind == "splitter":
        written["data"]["parameters"]["partitions"][2] = node
    elif kind == "model":
        written["predictor"]["parameters"]["model"] = node
    elif kind == "step":
        written["data"]["parameters"]["DataSource"]["parameters"]["preprocess"] = [node]
    elif kind == "unlearner":
        written["unlearners"].append(node)
    else:
        written["evaluator"]["parameters"]["measures"].append(node)
    return written


def understood(kind, path, /, **parameters):
    """The component that a node becomes, and everything that was said."""
    experiment = load_experiment(holding(kind, path, parameters or KINDS[kind][path]))
    component = {
        "source": lambda: experiment.data.data_source,
        "splitter": lambda: experiment.data.partitions[2],
        "model": lambda: experiment.predictor.model,
        "unlearner": lambda: experiment.unlearners[-1].unlearner,
        "measure": lambda: experiment.evaluator.measures[-1],
        "step": lambda: experiment.data.data_source.steps[-1],
    }[kind]()
    return component, experiment.notices


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_a_class_path_is_understood_with_all_its_parameters(kind, path):
    component, _ = understood(kind, path)
    alias = UPSTREAM[path]
    assert alias.kind == kind
    if alias.target:
        wrapped = [component]
        while hasattr(wrapped[-1], "inner"):
            wrapped.append(wrapped[-1].inner)
        _, _, registered = Registry().names(kind)[alias.target].rpartition(":")
        assert registered in [type(each).__name__ for each in wrapped]
    assert canonical(component)


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_a_class_path_needs_none_of_its_optional_parameters(kind, path):
    needed = {
        "source": {"path", "label", "data_columns", "id", "datasource", "file_name"},
        "splitter": {"parts_names", "ref_data", "percentage", "label", "z_label", "z_labels", "samples_ids", "n_samples", "concat_splits"},
        "measure": {"runners", "sub_unlearner", "partition"},
        "unlearner": {"sub_unlearner", "save_dir", "file_name"},
        "model": {"node_features"},
        "step": {name for nodes in vocabulary.STEPS.values() for name in nodes} - {"dim", "method"},
    }  # fmt: skip
    parameters = {name: value for name, value in KINDS[kind][path].items() if name in needed[kind]}
    assert load_experiment(holding(kind, path, parameters))


@pytest.mark.parametrize(("kind", "path"), [case for case in CASES if UPSTREAM[case.id].target])
def test_a_misspelt_parameter_is_still_found_out(kind, path):
    with pytest.raises(ConfigError, match="no_such_thing"):
        load_experiment(holding(kind, path, KINDS[kind][path] | {"no_such_thing": 1}))


def test_the_table_of_this_test_is_the_whole_vocabulary():
    tested = {path for nodes in KINDS.values() for path in nodes} | {vocabulary.TOKENIZER["class"]}
    assert tested == set(UPSTREAM)
    assert all(alias.target or alias.dropped or alias.spliced for alias in UPSTREAM.values())
    assert set(SECTIONS) == {"DatasetManager", "TorchModel", "TorchModelMultilabel", "Evaluator"}


def test_the_sections_take_all_their_parameters():
    written = vocabulary.experiment()
    written["data"]["parameters"]["task"] = "multilabel"
    written["predictor"]["class"] = "erasure.model.TorchModelMultilabel.TorchModelMultilabel"
    written["predictor"]["parameters"] |= {
        "training_set": "train",
        "early_stopping_threshold": 0.001,
        "alias": "mine",
        "cached": "true",
    }
    experiment = load_experiment(written)
    assert (experiment.data.task, experiment.data.batch_size, experiment.data.split_seed) == ("multilabel", 64, 16)
    assert experiment.predictor.patience is None
    said = [notice.message for notice in experiment.notices]
    assert any("early_stopping_threshold" in message and "validation_set" in message for message in said)


# What the nodes mean


def test_adult_is_read_as_its_author_meant_it():
    path = f"{vocabulary.DATA}UCIRepositoryDataSource.UCI_Adult_DataSource"
    source, notices = understood("source", path, to_encode=["workclass", "sex", "income"], label="income")
    assert source == UCI(
        id=2,
        label="income",
        label_strip=".",
        categorical=("workclass", "sex"),
        keep_values={"native-country": ["United-States"]},
        missing_is_other=True,
        missing="impute",
        download=True,
    )
    assert any('"income" is the label' in notice.message for notice in notices)


def test_columns_to_encode_are_those_that_are_inputs():
    source, notices = understood("source", f"{vocabulary.DATA}HFDataSource.SpotifyHFDataSource")
    assert isinstance(source, HuggingFace)
    assert (source.columns, source.encode, source.label) == (("popularity", "tempo"), (), "track_genre")
    assert source.keep_most_frequent == {"track_genre": 5, "artists": 10_000_000_000_000_000}
    assert any('"to_encode": "track_genre" is the label' in n.message and '"artists" is no input' in n.message for n in notices)
    assert any('"to_normalize" has no effect' in notice.message for notice in notices)


def test_ten_genres_are_kept_unless_the_file_says_otherwise():
    path = f"{vocabulary.DATA}HFDataSource.SpotifyHFDataSource"
    source, _ = understood("source", path, path="a/b", data_columns=["tempo"], label="track_genre")
    assert source.keep_most_frequent == {"track_genre": 10}


def test_reviews_of_films_come_from_the_labelled_splits_alone():
    source, _ = understood("source", f"{vocabulary.DATA}HFDataSource.IMDBHFDataSource")
    assert (source.splits, source.configuration, source.n_classes) == (("train", "test"), None, None)


def test_pictures_listed_in_a_table_are_found_beside_it():
    path = f"{vocabulary.DATA}TorchVisionCustomSource.TorchVisionCustomSource"
    given = {"path": "faces/", "file_name": "labels.csv", "label": "age"}
    assert understood("source", path, **given)[0] == ImageTable(path="faces/labels.csv", label="age", channels=3)
    grey, _ = understood("source", path, **given, RGB="false")
    assert grey.channels == 1
    with pytest.raises(ConfigError, match='"RGB": expected true or false'):
        understood("source", path, **given, RGB="grey")
    with pytest.raises(ConfigError, match='"file_name": expected text, found None'):
        understood("source", path, path="faces", label="age")


@pytest.mark.parametrize(
    ("path", "parameters", "meant"),
    [
        ("classifiers.standard_classifier.IrisNN", {}, MLP(hidden_sizes=(50, 30))),
        ("classifiers.standard_classifier.AdultNN", {}, MLP(hidden_sizes=(100, 100, 100))),
        ("classifiers.standard_classifier.AdultNN", {"n_layers": 1}, MLP(hidden_sizes=(100,))),
        ("classifiers.standard_classifier.SpotifyNN", {"n_layers": 2, "hidden_size": 8}, MLP(hidden_sizes=(8, 8))),
        ("FF.LogisticRegression", {"n_classes": 4}, MLP(hidden_sizes=(), n_inputs=4)),
        ("FF.MIAAttack", {}, MLP(hidden_factors=(3, 1.5, 0.5))),
        ("FF.FlexSeqBin", {"mult": [2, 2, 0.25]}, MLP(hidden_factors=(2, 4, 1))),
        ("FF.FlexSeqBin", {}, MLP(hidden_factors=(2, 2, 1))),
        (
            "gcn.DownstreamGCN",
            {"batch_size": 8, "node_features": 9, "num_dense_layers": 1, "linear_decay": 1.8},
            GNN(conv="gcn", n_inputs=9, layers=2, dense_layers=1, hidden_factor=2, dense_decay=1.8, batch_norm=False),
        ),
        (
            "classifiers.resnet50_for_celeba.CelebAResNet50",
            {"n_attrs": 8},
            TorchVisionModel(name="resnet50", hidden=512, n_classes=8),
        ),
        (
            "classifiers.MNIST_classifiers.FashionMNISTResNet18",
            {},
            TorchVisionModel(name="resnet18", stem="small", hidden=512),
        ),
        (
            "classifiers.BERT_classifier.DistilBERTClassifier",
            {"n_classes": 4},
            TextEncoder(name_or_path="distilbert-base-uncased", hidden_sizes=(512,), download=True, n_classes=4),
        ),
    ],
)
def test_a_network_is_one_of_a_family(path, parameters, meant):
    written = holding("model", f"{M}{path}", parameters)
    assert load_experiment(written).predictor.model == meant


def test_the_widths_of_attack_models_follow_their_inputs():
    model, _ = understood("model", f"{M}FF.MIAAttack", n_classes=10)
    network = model.build(ModelInput((10,), 2))
    assert [tuple(weight.shape) for weight in network.parameters() if weight.ndim == 2] == [(30, 10), (15, 30), (5, 15), (2, 5)]


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        ("classifiers.standard_classifier.AdultNN", {"n_layers": "three"}, '"n_layers": expected a number of layers'),
        ("classifiers.standard_classifier.AdultNN", {"n_layers": True}, '"n_layers": expected a number of layers'),
        ("classifiers.standard_classifier.AdultNN", {"hidden_size": "wide"}, "hidden_sizes"),
        ("FF.FlexSeqBin", {"mult": 2}, '"mult": expected a list of factors above 0'),
        ("FF.FlexSeqBin", {"mult": [1, 0]}, '"mult": expected a list of factors above 0'),
    ],
)
def test_what_a_list_cannot_be_made_of_is_refused(path, parameters, said):
    with pytest.raises(ConfigError, match=said):
        load_experiment(holding("model", f"{M}{path}", parameters))


@pytest.mark.parametrize(("written", "taken"), [(20, 20), (4, 4), (5, 6), (1, 4)])
def test_shadow_models_are_as_many_as_the_file_says_but_paired(written, taken):
    attack, notices = understood("measure", f"{vocabulary.EVAL}MIA.lira.Attack", shadows={"n_shadows": written})
    assert attack == LiRA(n_shadows=taken)
    said = [notice.message for notice in notices if notice.message.startswith('"shadows"')]
    assert len(said) == 1
    assert ("is taken for n_shadows" in said[0]) == (written != taken)


def test_without_a_number_of_shadow_models_ours_is_taken():
    attack, _ = understood("measure", f"{vocabulary.EVAL}MIA.lira.Attack", shadows={"base_model": {}})
    assert attack == LiRA()
    with pytest.raises(ConfigError, match=r'"shadows.n_shadows": expected a whole number above 0'):
        understood("measure", f"{vocabulary.EVAL}MIA.lira.Attack", shadows={"n_shadows": "many"})


def test_a_value_that_is_derived_is_blamed_where_it_is_written(tmp_path, capsys):
    file = tmp_path / "wrong.jsonc"
    written = holding("model", f"{M}classifiers.standard_classifier.AdultNN", {"hidden_size": 0})
    file.write_text(json.dumps(written, indent=1))
    assert _run(["validate", str(file)]) == 2
    line = int(capsys.readouterr().err.partition(f"{file}:")[2].partition(":")[0])
    assert "hidden_size" in file.read_text().splitlines()[line - 1]


def test_every_note_of_the_table_is_said():
    for kind, nodes in KINDS.items():
        for path in nodes:
            if UPSTREAM[path].note:
                notices = understood(kind, path)[1]
                assert all(isinstance(notice, Notice) for notice in notices)
                assert any(UPSTREAM[path].note in notice.message for notice in notices), path
