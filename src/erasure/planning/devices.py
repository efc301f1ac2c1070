"""Whether a plan can be trained on several devices: everything that can be known is said before anything trains."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import torch
from torch import nn

from erasure.errors import MissingDependency, RequirementNotMet
from erasure.planning.plan import Plan
from erasure.training.batches import Column
from erasure.training.devices import resolve_device
from erasure.training.distributed import unsupported_reason

__all__ = ["check_devices", "unshareable"]


def check_devices(devices: int, device: str, executor: str) -> None:
    """Whether the device exists, as many times as asked, with what is needed to run it.

    Args:
        devices: How many are to train a model together.
        device: As in the options of a run.
        executor: What runs the stages.

    Raises:
        RequirementNotMet: If they are not there, or cannot be used together.
        MissingDependency: If Lightning Fabric is not installed.
    """
    if devices < 1:
        raise RequirementNotMet(f"a model cannot be trained on {devices} devices; give 1 or more")
    found = resolve_device(device)
    if devices == 1:
        return
    if executor != "serial":
        raise RequirementNotMet(
            f"--devices {devices} needs the devices for one stage at a time, and the executor is {executor}; use --executor serial"
        )
    if found.type not in {"cpu", "cuda"}:
        raise RequirementNotMet(f"several devices of type {found.type} cannot train together; use --device cpu or --devices 1")
    if ":" in device:
        raise RequirementNotMet(f"--device {device} is one device and --devices asks for {devices}; use --device {found.type}")
    if found.type == "cuda" and devices > torch.cuda.device_count():
        raise RequirementNotMet(
            f"--devices {devices} asks for more than the {torch.cuda.device_count()} CUDA devices of this machine; "
            "use fewer, or --device cpu"
        )
    if importlib.util.find_spec("lightning_fabric") is None:
        raise MissingDependency("lightning-fabric", "fabric", "training on several devices")


def unshareable(plan: Plan, x: Column, model: nn.Module) -> Iterator[str]:
    """Why the models of a plan cannot be trained on the devices that its numerics ask for.

    Args:
        plan: What is to be run.
        x: The inputs.
        model: A network as the recipe builds it.
    """
    numerics = plan.numerics
    if numerics.devices == 1:
        return
    reason = unsupported_reason(model, plan.experiment.predictor, x, numerics.strategy)
    if reason is not None:
        yield reason
    blocks = [stage.name for stage in plan.stages.values() if stage.kind == "models"]
    if blocks and numerics.strategy == "fsdp":
        yield (
            f"a measure asks for models that are trained beside the original on one device each ({blocks[0]}), and --strategy fsdp is "
            "for models that do not fit on one; leave the measure out, or use --strategy ddp"
        )
