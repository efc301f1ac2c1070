"""Devices and precision: run options, never part of a component."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from erasure.errors import RequirementNotMet
from erasure.training.optimizers import uncompiled

__all__ = [
    "PeakMemory",
    "Precision",
    "autocast",
    "emulated_precision",
    "give_back",
    "keep_freed_memory",
    "mapped_apart",
    "resolve_device",
    "rounded_steps",
    "synchronise",
    "warm_up",
]

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


def emulated_precision(device: str, precision: str, model: torch.nn.Module) -> str | None:
    """What to tell someone whose processor has no instructions for bfloat16, or None: torch emulates them, many times slower.

    Args:
        device: Type of the device, such as ``cpu``.
        precision: That losses are computed in.
        model: The network; its weights may be bfloat16 whatever the precision.
    """
    if device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    if any(weight.dtype == torch.bfloat16 for weight in model.parameters()):
        remedy = 'give the model dtype "float32"'
    elif precision == "bf16":
        remedy = "leave out --precision bf16"
    else:
        return None
    return f"this processor has no instructions for bfloat16, and torch is some fifty times slower without them; {remedy}"


def rounded_steps(model: torch.nn.Module) -> str | None:
    """What to tell someone who trains weights of few bits, or None: their small steps are lost, and with them most of a method.

    Args:
        model: The network.
    """
    kinds = {weight.dtype for weight in model.parameters() if weight.requires_grad and weight.dtype.is_floating_point}
    coarse = next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), None)
    if coarse is None:
        return None
    share = round(2 / torch.finfo(coarse).eps)
    return (
        f"weights of {str(coarse).removeprefix('torch.')} are trained: a step of less than some {share}th of a weight is rounded away, at "
        'small learning rates nearly all of them; give the model lora_rank, whose updates are float32, or dtype "float32"'
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class PeakMemory:
    """The largest memory in use between its making and :meth:`mib`.

    On an accelerator the allocator's own peak; on Linux the kernel's high-water mark of the process, which is reset here; elsewhere
    unknown. Costs nothing while it watches.
    """

    _RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._known = True
        give_back()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            self._RESET.write_text("5")
        except OSError:
            self._known = False

    def mib(self) -> float | None:
        """Peak in MiB, or None where the platform does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        if not self._known:
            return None
        for line in self._STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""

_KEPT_MIB = 256
_LARGEST_KEPT_MIB = 64

_in_force = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}
"""What holds in this process now; at first what glibc comes to by itself once it has freed large blocks."""

_LARGE = 16 << 20
"""Bytes of weights from which on a network is a large one."""

APART = 2**18
"""Bytes from which on a tensor has memory of its own in :func:`mapped_apart`."""


def keep_freed_memory() -> None:
    """Let tensors take the memory of those freed before, where the C library is glibc.

    It hands larger blocks back to the kernel when they are freed, which clears every page of them before the next step gets it again.
    Up to 256 MiB stay with the process until :func:`give_back`, with which a :class:`PeakMemory` begins; blocks above 64 MiB are handed
    back as ever.
    """
    _set({_TRIM_THRESHOLD: _KEPT_MIB << 20, _MMAP_THRESHOLD: _LARGEST_KEPT_MIB << 20})


@contextlib.contextmanager
def mapped_apart(n_bytes: int = APART) -> Iterator[None]:
    """Let large tensors that are made in this block have memory of their own, which goes back as soon as they do.

    What a forward pass keeps and what it frees at once otherwise stand one after the other, and the holes between tensors that are kept
    are too small for what the next block needs: over the blocks of a network they grow to three quarters of what is kept. Only where
    glibc allocates memory, and only of tensors that fit into no hole that is there; elsewhere nothing happens. No number changes.

    Args:
        n_bytes: Of the smallest large tensor. The kernel clears all that it gives, so smaller ones cost more than they save.
    """
    before = _in_force.copy()
    _set({_MMAP_THRESHOLD: n_bytes})
    try:
        yield
    finally:
        _set(before)


def _set(thresholds: Mapping[int, int]) -> None:
    _in_force.update(thresholds)
    libc = _c_library()
    if libc is not None:
        for parameter, size in thresholds.items():
            libc.mallopt(parameter, size)


def give_back() -> None:
    """Hand freed memory to the kernel, so that a peak is that of what runs and not of what ran before."""
    libc = _c_library()
    if libc is not None:
        libc.malloc_trim(0)


def give_back_holes(weights: Iterable[torch.Tensor]) -> None:
    """Hand freed memory to the kernel between two passes of a network, if it is a large one: the holes are then as large as its layers.

    The next pass of a small one fits into what the last one freed, and would have to wait until the kernel has cleared it again.
    """
    if sum(weight.nbytes for weight in weights) >= _LARGE:
        give_back()


@functools.cache
def _c_library() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def warm_up(device: torch.device) -> None:
    """Take one step of training with a network of one weight: what PyTorch loads at its first step is then no model's cost."""
    from erasure.training.randomness import isolated

    keep_freed_memory()
    with isolated(0, device):
        model = torch.nn.Linear(1, 1).to(device)
        optimizer = uncompiled(torch.optim.Adam)(model.parameters())
        model(torch.ones(1, 1, device=device)).sum().backward()
        optimizer.step()
        torch.nn.functional.cross_entropy(
            model(torch.ones(1, 1, device=device)), torch.zeros(1, dtype=torch.int64, device=device)
        )
    synchronise(device)
