"""What the bytes of a result depend on, apart from its configuration: libraries, processor, instruction set and threads."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import cast

import torch

from erasure.stages.numerics import Numerics
from erasure.types import Json

# Each chooses other kernels, or limits which of them may be chosen.
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "safetensors")
_CPU_FACTS = Path("/proc/cpuinfo")


def versions() -> dict[str, Json]:
    """Versions of Python, of ERASURE and of the libraries that compute."""
    from erasure import __version__

    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"erasure": __version__, "python": platform.python_version(), "torch": str(torch.__version__), **libraries}


def machine(numerics: Numerics, device: torch.device) -> dict[str, Json]:
    """The processor or accelerator, the kernels that it makes PyTorch choose, and the settings of the run that change sums."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found: dict[str, Json] = {"system": platform.system(), "processor": name, **cast(dict[str, Json], numerics.json())}
    if device.type == "cpu":
        if maker := _maker():
            found["maker"] = maker
        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        found["mkl"], found["onednn"] = torch._C.has_mkl, torch._C._has_mkldnn
    return found | {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ}


def _maker() -> str:
    """Who made the processor, as far as the system says; MKL chooses kernels by it."""
    try:
        lines = _CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), platform.processor())
