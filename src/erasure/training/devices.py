"""Devices and precision: run options, never part of a component."""

from __future__ import annotations

import contextlib
from typing import Literal, TypeAlias

import torch

from erasure.errors import RequirementNotMet

__all__ = ["Precision", "autocast", "resolve_device", "synchronise"]

Precision: TypeAlias = Literal["fp32", "bf16"]


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        RequirementNotMet: If the device does not exist here.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RequirementNotMet(f'there is no device "{name}"; use auto, cpu, cuda, cuda:N or mps') from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": has_mps}.get(device.type, False)
    if not available or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise RequirementNotMet(f'device "{name}" is not available here; use auto or cpu')
    return device


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Context in which losses are computed: bfloat16 where asked for, nothing otherwise."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
