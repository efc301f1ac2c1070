"""A kind of stage from outside the package: one class, and one line that plans it."""

import json
from dataclasses import dataclass

import pytest
import torch
from small import small_experiment

from erasure.engine.executors import serial
from erasure.events import StageFinished
from erasure.experiment.configuration import load_experiment
from erasure.stages.session import Session
from erasure.stages.stage import Stage
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan


@dataclass(frozen=True, eq=False, kw_only=True)
class CountLabels(Stage):
    """Counts the labels of a partition."""

    kind = "label-counts"

    partition: str

    def content(self):
        return {"partition": self.data.partition_addresses[self.partition]}

    def inputs(self):
        return (self.data.split_address,)

    def run(self, session, writer):
        loaded = session.loaded(self.data)
        writer.save_json("counts", torch.bincount(loaded.y[loaded.partitions[self.partition]]).tolist())


@pytest.fixture
def planned(tmp_path):
    experiment = load_experiment(small_experiment(unlearners=[]))
    plan = make_plan(experiment, RunOptions(store=tmp_path))
    plan.add(CountLabels(name="count the labels", data=plan.data[0], partition="retain"))
    return plan


def test_it_runs_is_stored_and_is_not_computed_again(planned, tmp_path):
    events = []
    session = Session(Store(tmp_path), torch.device("cpu"), planned.numerics, events.append)
    needed = {where: stage for where, stage in planned.stages.items() if stage.kind in {"data", "split", "label-counts"}}
    assert serial.execute(needed, session) == {}
    (stage,) = (stage for stage in needed.values() if stage.kind == "label-counts")
    stored = session.store.open(stage.address)
    assert sum(stored.json("counts")) == len(session.loaded(planned.data[0]).partitions["retain"])
    assert json.loads(json.dumps(stored.facts))["signature"].startswith("label-counts #")
    assert serial.execute(needed, session) == {}
    assert [event.cached for event in events if isinstance(event, StageFinished) and event.kind == "label-counts"] == [
        False,
        True,
    ]
