"""The list of forgotten samples that still show, where labels are wrong and a network had to learn them by heart."""

import json

from small import small_experiment

from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment
from erasure.workflows.samples import SAMPLES_FILE


def run(folder, n_golds):
    measures = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain")]
    evaluator = {"measures": measures, "floor_repeats": n_golds}
    configuration = small_experiment(unlearners=["GoldModel", "Identity"], evaluator=evaluator)
    source = configuration["data"]["data_source"]
    corruption = {"class": "Mislabel", "parameters": {"percentage": 0.1}}
    configuration["data"]["data_source"] = {
        "class": "Poisoned",
        "parameters": {"data_source": source, "corruption": corruption},
    }
    configuration["predictor"] |= {"epochs": 60, "optimizer": {"class": "Adam", "parameters": {"lr": 0.01}}}
    experiment = load_experiment(configuration)
    run_experiment(experiment, RunOptions(store=folder / "store", output=folder / "out", report=False))
    file = folder / "out" / SAMPLES_FILE
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def test_what_a_network_knows_by_heart_still_shows_and_golds_are_not_listed(tmp_path):
    found = run(tmp_path, 12)
    (identity,) = found["methods"]  # what retrains is not tested
    assert identity["label"] == "Identity"
    assert identity["basis"] == "t"  # 13 labellings are too few
    assert identity["tested"] == identity["of"]
    assert 1 <= len(identity["samples"]) < identity["of"] / 2
    assert all(sample["p"] <= 0.05 for sample in identity["samples"])
    assert identity["samples"][0]["difference"] > 0  # the original is surer of what it has learned by heart
    assert [sample["p"] for sample in identity["samples"]] == sorted(sample["p"] for sample in identity["samples"])
    assert run(tmp_path, 3) is None  # three golds tell nothing, and the list of other golds is gone


def test_without_golds_there_is_no_list(tmp_path):
    assert run(tmp_path, 0) is None
