"""What only the data can tell about loss, labels and augmentation, and the memory cap, from a configuration."""

import pytest
from small import small_experiment, without_timings

from erasure.errors import ConfigError, DataError
from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment


def experiment(task=None, source=None, **predictor):
    configuration = small_experiment(unlearners=["Identity"], predictor={"model": "MLP", "epochs": 1, **predictor})
    configuration["evaluator"] = {"measures": ["Accuracy"], "floor_repeats": 0}
    if source is not None:
        configuration["data"]["data_source"] = source
    if task is not None:
        configuration["data"]["task"] = task
    return configuration


IRIS = {"class": "Sklearn", "parameters": {"name": "iris"}}
MISFITS = {
    "yes or no": (experiment(loss_fn="BCEWithLogitsLoss", source=IRIS), "BCEWithLogitsLoss compares each logit with a 0 or a 1"),
    "one logit": (experiment("binary", loss_fn="CrossEntropyLoss"), "CrossEntropyLoss compares the logits of all classes"),
    "no log-softmax": (experiment(loss_fn="NLLLoss"), "the model has no log-softmax at its end; give CrossEntropyLoss"),
    "a table": (experiment(augment=["RandomFlip"]), "RandomFlip changes pictures"),
    "width": (
        experiment(model={"class": "torch.nn.Linear", "parameters": {"in_features": 30, "out_features": 1}}),
        'asks for 2 logits, one for each class; give the data "task": "binary"',
    ),
}


@pytest.mark.parametrize(("configuration", "said"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_belong_together_is_said_before_training(configuration, said, tmp_path):
    heard = []
    with pytest.raises(ConfigError) as caught:
        run_experiment(load_experiment(configuration), RunOptions(store=tmp_path), heard.append)
    assert said in str(caught.value)
    assert not any("train" in getattr(event, "name", "") for event in heard)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_labels_that_cannot_be_read_so_are_refused(task, tmp_path):
    with pytest.raises(DataError, match=f'one of 3 classes, which cannot be read as task = "{task}"'):
        run_experiment(load_experiment(experiment(task, IRIS)), RunOptions(store=tmp_path))


def test_a_memory_cap_changes_neither_results_nor_addresses(tmp_path):
    configuration = experiment()
    configuration["unlearners"] = ["GoldModel", "SSD", "Identity"]
    capped = {**configuration, "globals": {"seed": 0, "memory_cap_gib": 1e-9}}
    results = {}
    for name, each in (("plain", configuration), ("capped", capped)):
        store = tmp_path / name
        results[name] = run_experiment(load_experiment(each), RunOptions(store=store))
        results[f"{name} objects"] = sorted(path.name for path in (store / "objects").glob("*/*"))
    assert without_timings(results["plain"]) == without_timings(results["capped"])
    assert results["plain objects"] == results["capped objects"]
