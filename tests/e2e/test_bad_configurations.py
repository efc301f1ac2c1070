"""Configurations that cannot be run: every one says where, what and what to do, and trains nothing."""

import copy
import json

import pytest
from small import small_experiment

from erasure.cli import _run

TEXTS = {
    "empty file": ("", "empty"),
    "missing comma": ('{"data": {} "predictor": {}}', "missing comma"),
    "single quotes": ("{'data': 1}", "double quotes"),
    "unterminated string": ('{"data": "x', "string"),
    "unterminated comment": ('{"data": 1} /* open', "comment"),
    "a list where an object belongs": ("[1, 2]", "object"),
    "repeated key": ('{"data": {},\n "data": {}}', "data"),
    "not a number": ('{"globals": {"seed": NaN}}', "NaN"),
    "number too large": ('{"globals": {"seed": 1e999}}', "1e999"),
    "bad escape": (r'{"data": "\q"}', "escape"),
    "text after the end": ('{"a": 1} {"b": 2}', "{"),
    "missing snippet": ('{"compose_data": "nowhere.json"}', "nowhere.json"),
    "cyclic snippet": ('{"compose_me": "config.jsonc"}', "config.jsonc"),
    "snippet that is no text": ('{"compose_me": 3}', "compose_me"),
    "unclosed bracket": ('{"unlearners": [1, 2', "expected"),
    "bare word": ('{"data": yes}', "yes"),
}


def changed(path, value):
    """The small experiment with one value replaced (or a key removed, if the value is ...)."""
    configuration = copy.deepcopy(small_experiment())
    place = configuration
    *way, last = path
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return configuration


SPLIT = ("data", "partitions", 1)
CHANGES = {
    "unknown unlearner": (("unlearners", 1), "Finetunign", 'did you mean "Finetuning"?'),
    "unknown unlearner in a node": (("unlearners", 2, "class"), "SCRUBB", 'did you mean "SCRUB"?'),
    "unknown measure": (("evaluator", "measures", 3), "UMAI", 'did you mean "UMIA"?'),
    "unknown model": (("predictor", "model", "class"), "MLPP", 'did you mean "MLP"?'),
    "unknown splitter": (("data", "partitions", 0, "class"), "Percentge", 'did you mean "Percentage"?'),
    "unknown source": (("data", "data_source", "class"), "Sklaern", 'did you mean "Sklearn"?'),
    "unknown optimizer": (("predictor", "optimizer"), "Adamm", 'did you mean "Adam"?'),
    "unknown loss": (("predictor", "loss_fn"), "CrossEntropy", 'did you mean "CrossEntropyLoss"?'),
    "unknown upstream path": (("unlearners", 1), "erasure.unlearners.Scrubb.Scrub", "did you mean"),
    "a published source where an unlearner belongs": (
        ("unlearners", 1),
        {"class": "erasure.data.data_sources.UCIRepositoryDataSource.UCIRepositoryDataSource"},
        "takes an unlearner",
    ),
    "a published source without its parameters": (
        ("data", "data_source"),
        {"class": "erasure.data.data_sources.UCIRepositoryDataSource.UCIRepositoryDataSource"},
        'the required parameter "id" of UCI is missing',
    ),
    "the last word of a published path": (
        ("predictor", "model"),
        "AdultNN",
        "published files write erasure.model.classifiers.standard_classifier.AdultNN",
    ),
    "a typo in a published parameter": (
        ("predictor", "model"),
        {"class": "erasure.model.classifiers.standard_classifier.AdultNN", "parameters": {"n_layer": 3}},
        'did you mean "n_layers"?',
    ),
    "typo in a parameter": (("unlearners", 1, "parameters"), {"epoch": 3}, 'did you mean "epochs"?'),
    "typo in a model's parameter": (("predictor", "model", "parameters"), {"hidden_size": [3]}, 'did you mean "hidden_sizes"?'),
    "typo in a section": (("predictor",), {"modell": "MLP"}, 'did you mean "model"?'),
    "typo in an optimizer's parameter": (
        ("predictor", "optimizer"),
        {"class": "Adam", "parameters": {"lrr": 1}},
        'did you mean "lr"?',
    ),
    "text for a number": (("predictor", "epochs"), "ten", "expected"),
    "number for text": (("data", "partitions", 0, "parameters", "parts_names"), [1, 2], "expected"),
    "fraction for a count": (("predictor", "epochs"), 2.5, "expected"),
    "boolean for a number": (("predictor", "epochs"), True, "expected"),
    "negative epochs": (("unlearners", 1, "parameters", "epochs"), -1, "greater than or equal to 0"),
    "temperature zero": (("unlearners", 2, "parameters"), {"temperature": 0}, "greater than 0"),
    "weighting below zero": (("unlearners", 3, "parameters", "selection_weighting"), -3, "greater than 0"),
    "learning rate below zero": (("predictor", "optimizer"), {"class": "Adam", "parameters": {"lr": -1}}, "learning rate"),
    "fraction above one": ((*SPLIT, "parameters", "percentage"), 1.5, "less than"),
    "three parts": ((*SPLIT, "parameters", "parts_names"), ["a", "b", "c"], "parts_names"),
    "width zero": (("predictor", "model", "parameters", "hidden_sizes"), [32, 0], "hidden_sizes[1]"),
    "unknown choice": (("data", "data_source", "parameters", "name"), "cats", "digits"),
    "batch size zero": (("data", "batch_size"), 0, "greater than 0"),
    "seed below zero": (("globals", "seed"), -1, "greater than or equal to 0"),
    "missing data": (("data",), ..., '"data" is missing'),
    "missing predictor": (("predictor",), ..., '"predictor" is missing'),
    "missing model": (("predictor", "model"), ..., "required"),
    "missing parameter": ((*SPLIT, "parameters", "percentage"), ..., "required"),
    "unknown partition of a splitter": ((*SPLIT, "parameters", "ref_data"), "trian", 'did you mean "train"?'),
    "unknown partition of a measure": (("evaluator", "measures", 2, "parameters", "partition"), "tset", 'did you mean "test"?'),
    "unknown partition of an unlearner": (("unlearners", 2, "parameters"), {"forget": "forgot"}, 'did you mean "forget"?'),
    "unknown training set": (("predictor", "training_set"), "everything", "there is no partition"),
    "partition made later": (("data", "partitions", 0, "parameters", "ref_data"), "retain", "made only later"),
    "patience without validation": (("predictor", "patience"), 3, "validation_set"),
    "a measure where an unlearner belongs": (("unlearners", 1), "UMIA", "is a measure; this place takes an unlearner"),
    "an unlearner where a measure belongs": (
        ("evaluator", "measures", 0),
        "SCRUB",
        "is an unlearner; this place takes a measure",
    ),
    "a method of another kind": (
        ("unlearners", 1),
        {"class": "GRU", "parameters": {"inner": {"class": "Finetuning"}}},
        '"Finetuning" is an unlearner, but not of the kind that this place takes, AnswerUnlearner',
    ),
    "parameters that contradict each other": (
        ("unlearners", 1),
        {"class": "PDU", "parameters": {"retain_term": "kl"}},
        "unlearners[1]: PDU holds the loss of retained answers under a bound",
    ),
    "an item out of range": (
        ("evaluator", "measures", 0),
        {"class": "RoundedWeights", "parameters": {"bits": [1]}},
        "bits[0]: expected greater than or equal to 2 and less than or equal to 8, found 1",
    ),
    "a layer that is no optimizer": (("predictor", "optimizer"), "torch.nn.Linear", "not a subclass"),
    "a function that is no network": (("predictor", "model"), "torch.optim.Adam", "not an nn.Module"),
    "a path outside the allow-list": (("unlearners", 1), "os.system", "--trust os"),
    "a path into builtins": (("predictor", "model"), "builtins.eval", "--trust builtins"),
    "a function of ours that does something": (
        ("predictor", "model"),
        {"class": "erasure.api.run", "parameters": {"configuration": {}, "output": "anywhere"}},
        "not an nn.Module",
    ),
    "a function that is no metric": (
        ("evaluator", "measures", 0),
        {"class": "SklearnMetric", "parameters": {"function": "erasure.api.run"}},
        "not a function of sklearn.metrics",
    ),
    "an optimizer outside the allow-list": (("predictor", "optimizer"), "subprocess.Popen", "--trust subprocess"),
    "unlearners that are no list": (("unlearners",), {"class": "SCRUB"}, "list"),
    "a number for a component": (("unlearners", 1), 3, "expected an unlearner"),
    "a node without class": (("unlearners", 1), {"clas": "SCRUB"}, 'did you mean "class"?'),
    "parameters that are no object": (("unlearners", 1), {"class": "SCRUB", "parameters": [1]}, "object"),
    "an empty cascade": (("unlearners", 1), {"class": "Cascade", "parameters": {"steps": []}}, "at least 1"),
    "a mistake deep inside": (
        ("unlearners", 1),
        {"class": "Cascade", "parameters": {"steps": [{"class": "SCRUB", "parameters": {"alpha": "x"}}]}},
        "steps[0].parameters.alpha",
    ),
}
DATA = {
    "an unknown class label": (SPLIT, {"class": "Class", "parameters": {"parts_names": ["forget", "retain"], "labels": 7}}, "7"),
    "more samples than there are": (
        SPLIT,
        {"class": "NSamples", "parameters": {"parts_names": ["forget", "retain"], "n_samples": 10_000}},
        "10000",
    ),
    "a missing file": (
        ("data", "data_source"),
        {"class": "CSV", "parameters": {"path": "nowhere.csv", "label": "y"}},
        "nowhere.csv",
    ),
    "a network for other data": (("predictor", "model"), "CNN", "images"),
    "a layer that does not accept its parameters": (
        ("predictor", "model"),
        {"class": "torch.nn.Linear", "parameters": {"in_features": "a", "out_features": 2}},
        "torch.nn.Linear does not accept its parameters",
    ),
    "a group that no column has": (
        SPLIT,
        {"class": "ByZ", "parameters": {"parts_names": ["forget", "retain"], "z_labels": [1]}},
        "z",
    ),
}


def tried(capsys, path, *options):
    store = path.parent / "store"
    code = _run(["run", str(path), "--store", str(store), "--output", str(path.parent / "out"), *options])
    errors = capsys.readouterr().err
    trained = [m for m in store.glob("objects/??/*/manifest.json") if json.loads(m.read_text())["kind"] in {"model", "unlearned"}]
    assert code == 2, errors
    assert "Traceback" not in errors
    assert not trained
    assert not (path.parent / "out").exists()
    return errors


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_configuration_is_refused(capsys, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.jsonc"
    path.write_text(text, encoding="utf-8")
    errors = tried(capsys, path)
    assert said in errors
    assert f"{path}:" in errors or "config.jsonc:" in errors


@pytest.mark.parametrize(("path", "value", "said"), CHANGES.values(), ids=CHANGES)
def test_a_mistake_is_named_with_its_position(capsys, write_config, path, value, said):
    file = write_config(changed(path, value))
    errors = tried(capsys, file)
    assert said in errors
    assert f"{file}:" in errors
    line = int(errors.partition(f"{file}:")[2].partition(":")[0])
    assert 1 <= line <= len(file.read_text().splitlines())


@pytest.mark.parametrize(("path", "value", "said"), DATA.values(), ids=DATA)
def test_what_only_the_data_can_tell_is_found_before_training(capsys, write_config, path, value, said):
    file = write_config(changed(path, value))
    errors = tried(capsys, file)
    assert said in errors
    line = int(errors.partition(f"{file}:")[2].partition(":")[0])
    written = file.read_text().splitlines()[line - 1]
    assert "{" in written or json.dumps(value) in written


def test_every_mistake_is_reported_at_once(capsys, write_config):
    configuration = small_experiment()
    configuration["predictor"]["epochs"] = "ten"
    configuration["unlearners"][1] = "Finetunign"
    configuration["unlearners"][2]["parameters"] = {"temperatur": 2}
    configuration["evaluator"]["measures"][0]["parameters"]["partition"] = "nowhere"
    path = write_config(configuration)
    errors = tried(capsys, path)
    assert "4 problems" in errors
    assert errors.count(f"{path}:") == 4


def test_a_file_that_is_not_there_is_named(capsys, tmp_path):
    assert "nothing.jsonc" in tried(capsys, tmp_path / "nothing.jsonc")


def test_a_bad_override_is_named(capsys, write_config):
    errors = tried(capsys, write_config(small_experiment()), "--set", "unlearners[99].parameters.epochs=3")
    assert "no element [99]" in errors
