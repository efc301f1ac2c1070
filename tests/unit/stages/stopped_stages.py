"""A stage that is stopped after an epoch, and goes on from its checkpoint."""

import torch

from erasure.engine.executors import serial
from erasure.events import EpochFinished
from erasure.stages.kept_training import KeptTraining
from erasure.stages.session import Session
from erasure.store import Store
from erasure.workflows.run import RunOptions, make_plan


class Stopped(Exception):
    """What a stop looks like to the test."""


class StoppedStage:
    """The first stage of a kind in a store, stopped after an epoch or not; ``epochs`` has those of its last run."""

    def __init__(self, store, experiment, kind):
        plan = make_plan(experiment, RunOptions(store=store))
        self.store, self.numerics, self.epochs = Store(store), plan.numerics, []
        self.stage = next(stage for stage in plan.stages.values() if stage.kind == kind)
        needed, found = list(self.stage.reads), {}
        while needed:
            stage = plan.stages[needed.pop()]
            found[stage.address] = stage
            needed += [address for address in stage.reads if address not in found]
        self.before = [stage for stage in plan.stages.values() if stage.address in found]

    def run(self, stop_after=None, checkpoint_s=0.0, stop_after_n=None):
        """The bytes of the weights, and the seconds that are booked."""
        self.epochs = []

        def hear(event):
            if isinstance(event, EpochFinished):
                self.epochs.append(event.epoch)
                if event.epoch == stop_after or len(self.epochs) == stop_after_n:
                    raise Stopped

        session = Session(self.store, torch.device("cpu"), self.numerics)
        for stage in self.before:
            serial.run_or_raise(stage, session)
        session = Session(self.store, torch.device("cpu"), self.numerics, hear)
        session.checkpoint_s = checkpoint_s
        serial.run_or_raise(self.stage, session)
        artifact = self.store.open(self.stage.address)
        return artifact.path("model.safetensors").read_bytes(), artifact.facts["elapsed_s"]

    @property
    def checkpoints(self):
        return [address for address in self.store.addresses() if self.store.open(address).kind == KeptTraining.kind]
