import pytest
import torch
from toys import make_task, sgd

from erasure import run
from erasure.analysis.overview import overview_of
from erasure.errors import InvalidParameters
from erasure.events import Message
from erasure.records.run_folder import RunFolder
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.neg_grad import NegGrad
from erasure.unlearners.sequential import Sequential

PARTITIONS = {
    "train": range(24),
    "forget 1": range(4),
    "retain 1": range(4, 24),
    "forget 2": range(4, 8),
    "retain 2": range(8, 24),
}
REQUESTS = {
    "requests": ("forget 1", "forget 2"),
    "remaining": ("retain 1", "retain 2"),
    "forget": "forget 2",
    "retain": "retain 2",
}


def _task():
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return make_task(x, torch.arange(24) % 3, PARTITIONS)


def _model():
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12.0).reshape(3, 4) / 12)
        layer.bias.zero_()
    return layer


def test_every_request_starts_from_what_the_one_before_has_left():
    method = Finetuning(epochs=2, optimizer=sgd())
    together = Sequential(method=method, **REQUESTS).run(_model(), _task()).model
    steps = [
        method.replace(forget=f"forget {t}", retain=f"retain {t}", train=name) for t, name in ((1, "train"), (2, "retain 1"))
    ]
    by_hand = Cascade(steps=tuple(steps)).run(_model(), _task()).model
    assert torch.equal(together.weight, by_hand.weight)


def test_steps_inside_the_method_get_the_partitions_of_the_request():
    method = Cascade(steps=(NegGrad(epochs=1), Finetuning(epochs=1)))
    names = [step.partition_names() for step in Sequential(method=method, **REQUESTS).steps]
    assert names == [{"forget 1", "retain 1"}, {"forget 2", "retain 2"}]
    assert Sequential(method=method, **REQUESTS).partition_names() == {"forget 1", "retain 1", "forget 2", "retain 2"}


def test_every_request_is_an_epoch_to_those_who_listen():
    from dataclasses import replace

    heard = []
    task = replace(_task(), on_epoch=lambda epoch, epochs, model: heard.append((epoch, epochs, model.weight.detach().clone())))
    found = Sequential(method=Finetuning(epochs=3, optimizer=sgd()), **REQUESTS).run(_model(), task).model
    assert [(epoch, epochs) for epoch, epochs, _ in heard] == [(1, 2), (2, 2)]
    assert torch.equal(heard[1][2], found.weight)
    assert not torch.equal(heard[0][2], found.weight)


def test_each_request_needs_its_retain_set():
    with pytest.raises(InvalidParameters, match="2 requests need as many remaining sets; found 1"):
        Sequential(method=Finetuning(), requests=("a", "b"), remaining=("c",))


def test_a_run_warns_of_a_model_that_drifts(tmp_path):
    stream = {"requests": ["f 1", "f 2", "f 3"], "remaining": ["r 1", "r 2", "r 3"], "forget": "f 3", "retain": "r 3"}
    ruinous = {"class": "NegGrad", "parameters": {"epochs": 3, "optimizer": {"class": "SGD", "parameters": {"lr": 0.05}}}}
    measure = {"class": "Accuracy", "parameters": {"partition": "test"}}
    cut = {"parts_names": ["f", "r"], "ref_data": "train", "n_requests": 3, "percentage": 0.1}
    heard = []
    run(
        {
            "data": {
                "data_source": {"class": "Sklearn", "parameters": {"name": "iris"}},
                "partitions": [
                    {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                    {"class": "Requests", "parameters": cut},
                ],
            },
            "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [16]}}, "epochs": 30},
            "unlearners": [
                {"class": "Sequential", "label": name, "parameters": {"method": method, **stream}}
                for name, method in (("ruined", ruinous), ("retrained", "GoldModel"))
            ],
            "evaluator": {"measures": [measure], "trace": {"measures": [measure]}, "floor_repeats": 0},
            "globals": {"seed": 0},
        },
        store=tmp_path / "store",
        listener=heard.append,
    )
    warned = [event.text for event in heard if isinstance(event, Message) and "drifts" in event.text]
    assert len(warned) == 1
    assert warned[0].startswith("ruined drifts: after request 1 its accuracy on test is")


def test_a_stream_of_requests_on_real_data_is_traced_request_by_request(tmp_path):
    n = 3
    stream = {
        "requests": [f"forget {t}" for t in range(1, n + 1)],
        "remaining": [f"retain {t}" for t in range(1, n + 1)],
        "forget": f"forget {n}",
        "retain": f"retain {n}",
    }
    accuracies = [{"class": "Accuracy", "parameters": {"partition": f"forget {t}"}} for t in range(1, n + 1)]
    results = run(
        {
            "data": {
                "data_source": {"class": "Sklearn", "parameters": {"name": "breast_cancer"}},
                "partitions": [
                    {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
                    {
                        "class": "Requests",
                        "parameters": {
                            "parts_names": ["forget", "retain"],
                            "ref_data": "train",
                            "n_requests": n,
                            "percentage": 0.1,
                        },
                    },
                ],
            },
            "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [16]}}, "epochs": 10},
            "unlearners": [
                {"class": "Sequential", "label": name, "parameters": {"method": name, **stream}}
                for name in ("GoldModel", "Finetuning", "Identity")
            ],
            "evaluator": {
                "measures": accuracies,
                "trace": {
                    "measures": [*accuracies, "RunTime", {"class": "WeightDistance", "parameters": {"reference": "original"}}]
                },
            },
            "globals": {"seed": 0},
        },
        store=tmp_path / "store",
        output=tmp_path / "out",
    )
    assert not results.failures
    folder = RunFolder.load(tmp_path / "out")
    assert folder.partitions("forget") == {"forget 1", "forget 2", "forget 3"}
    assert folder.groups[0].forgotten.n == 3 * 39  # of 398, a tenth each
    assert "117 of 398 training rows (29" in overview_of(folder).headline
    assert "in 3 requests" in overview_of(folder).headline
    epochs = {name: {epoch for epoch, row in results.trace if row.label == name} for name in ("GoldModel", "Finetuning")}
    assert epochs["GoldModel"] >= {1, 2, 3}
    times = {epoch: row.value for epoch, row in results.trace if row.label == "GoldModel" and row.measure == "RunTime"}
    assert 0 < times[1] < times[2] < times[3]
    drift = {
        epoch: row.value
        for epoch, row in results.trace
        if row.label == "Finetuning" and row.unit == "" and "istance" in row.measure
    }
    assert drift[0] == 0
    assert drift[3] > 0
    gold = results.value("accuracy", "forget 1", "gold")
    assert results.value("accuracy", "forget 1", "GoldModel") == gold
