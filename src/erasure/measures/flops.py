"""Operations that making a model takes, counted while it is made once more."""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from annotated_types import MinLen
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.types import Source

__all__ = ["Flops", "HardwareCounters"]

_Shape: TypeAlias = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Flops(Measure):
    """Floating-point operations that making the model takes.

    Answers: what does unlearning cost, whatever the machine? The method (for the original and gold: the training) is run once more, from
    the same seeds, while PyTorch counts the operations of matrix products, convolutions, attention, recurrent layers and linear systems,
    forward and backward; a multiplication and an addition are two. Attention counts as its matrix products and a recurrent layer as those
    of its gates, whichever kernel the machine would take: meanwhile they run without fused kernels. Element-wise operations,
    normalisation and optimizer steps are not counted, nor is what does not run in PyTorch. An operator that multiplies and has no
    formula here is named and there is no value, as it would be too small. At least 0; less is better, and there is no ideal.

    **Cost**: the method, or the training, once more, without fused kernels; nothing is kept of it.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bookkeeping",
        code="aiim-research/ERASURE at d5bbbe5 (TorchFlops)",
        tested="operations counted by hand for each kind of layer (tests/unit/measures/test_flops.py)",
        deviations=(
            "The method is run again from the same seeds, so that its own time is taken without the counter.",
            "Operations are counted as they are dispatched (upstream adds up a profiler's estimates).",
        ),
    )
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "FLOP"
    ideal: ClassVar[Literal["gold"] | float | None] = None
    on_jury: ClassVar[bool] = False

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The number of operations."""
        from torch.utils.flop_counter import FlopCounterMode

        remake, times = evaluation.subject.epoch or (evaluation.subject.remake, 1)
        if remake is None:
            raise RequirementNotMet(f"{self.title} reruns the method, which needs an experiment run")
        counter, seen = FlopCounterMode(display=False, custom_mapping=_formulas()), _Uncounted()
        with torch.enable_grad(), _without_fused_kernels(evaluation.subject.load()), seen, counter:
            remake()
        if seen.names:
            listed = ", ".join(sorted(seen.names))
            raise RequirementNotMet(
                f"{self.title} has no formula for {listed}, which the model or the method runs: the count is too small"
            )
        return [Value(value=float(times * counter.get_total_flops()))]


@contextlib.contextmanager
def _without_fused_kernels(model: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers as the matrix products that they are: the counter does not know what fused kernels do."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        with warnings.catch_warnings():  # they ask for settings of TF32 that are deprecated, to put them back
            warnings.simplefilter("ignore")
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            if any(isinstance(module, nn.RNNBase) for module in model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stack.close()


_FUSED = frozenset(
    {
        "_native_multi_head_attention",
        "_transformer_decoder_only_layer_fwd",
        "_transformer_encoder_layer_fwd",
        "_triton_multi_head_attention",
    }
    | {"_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"}
    | {"_cudnn_rnn", "_cudnn_rnn_backward", "miopen_rnn", "miopen_rnn_backward", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"}
    | {"lstm_mps_backward", "_lstm_mps"}
)
_PRODUCTS = frozenset(
    {"_trilinear", "_sparse_addmm", "_sparse_mm", "_sparse_mm_reduce_impl", "_sparse_sparse_matmul", "sspaddmm", "hspmm"}
    | {"_int_mm", "_grouped_mm", "_scaled_grouped_mm", "_weight_int4pack_mm", "_weight_int8pack_mm", "_addmm_activation"}
    | {"_cdist_forward", "_cdist_backward", "_pdist_forward", "_pdist_backward", "_fft_c2c", "_fft_c2r", "_fft_r2c"}
    | {"mkldnn_linear", "mkldnn_convolution", "_nnpack_spatial_convolution", "_conv_depthwise2d", "conv_depthwise3d"}
    | {"_linalg_det", "_linalg_eigh", "_linalg_slogdet", "_linalg_svd", "geqrf", "linalg_eig", "linalg_eigvals", "linalg_lstsq"}
    | {"linalg_householder_product", "linalg_ldl_factor_ex", "linalg_ldl_solve", "linalg_matrix_exp", "linalg_qr", "ormqr"}
)
_KNOWN_NAMESPACES = frozenset({"aten", "prim", "prims", "profiler", "c10d", "_c10d_functional", "debugprims", "inductor"})


class _Uncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators that multiply and that no formula counts; in force around the counter, it sees what that has taken apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        namespace, _, name = func._schema.name.partition("::")
        if namespace not in _KNOWN_NAMESPACES or name in _FUSED or name in _PRODUCTS:
            self.names.add(f"{namespace}::{name}")
        return func(*args, **(kwargs or {}))


def _formulas() -> dict[Any, Callable[..., int]]:
    """Operations of products and linear systems that PyTorch's counter leaves out, from the shapes of their arguments.

    Linear systems count their leading terms: a Cholesky decomposition n³ / 3, one by elimination 2 n³ / 3, each right-hand side 2 n².
    """
    aten = torch.ops.aten
    return {
        aten.mv: lambda matrix, vector, **_: 2 * math.prod(matrix),
        aten.addmv: lambda start, matrix, vector, **_: 2 * math.prod(matrix),
        aten.dot: lambda first, second, **_: 2 * math.prod(first),
        aten.vdot: lambda first, second, **_: 2 * math.prod(first),
        aten.addbmm: lambda start, first, second, **_: 2 * math.prod(first) * second[-1],
        aten.linalg_cholesky_ex: lambda matrix, **_: _cubes(matrix) // 3,
        aten.cholesky_solve: lambda right, factor, *_, **__: 2 * _right_sides(factor, right),
        aten.linalg_solve_triangular: lambda factor, right, **_: _right_sides(factor, right),
        aten.triangular_solve: lambda right, factor, *_, **__: _right_sides(factor, right),
        aten._linalg_solve_ex: lambda matrix, right, out_shape, **_: (
            2 * _cubes(matrix) // 3 + 2 * _right_sides(matrix, out_shape[0])
        ),
        aten.linalg_lu_factor_ex: lambda matrix, **_: 2 * _cubes(matrix) // 3,
        aten.linalg_lu_solve: lambda factor, pivots, right, **_: 2 * _right_sides(factor, right),
        aten.linalg_inv_ex: lambda matrix, **_: 2 * _cubes(matrix),
    }


def _cubes(matrix: _Shape) -> int:
    """n³ for each matrix of a batch."""
    return math.prod(matrix) * matrix[-1]


def _right_sides(matrix: _Shape, right: _Shape) -> int:
    """n² for each right-hand side."""
    return math.prod(right) * matrix[-1]


@dataclass(frozen=True, kw_only=True)
class HardwareCounters(Measure):
    """Events that the processor counts while the model is made once more.

    Answers: what does unlearning cost the processor, in its own terms? The counters are PAPI's, of the thread that runs the method: set
    the number of threads to 1 to count everything. Work on an accelerator is not seen. Which events there are depends on the
    processor, and the system must let users read them. At least 0; less is better, and there is no ideal.

    **Cost**: the method, or the training, once more; nothing is kept of it.

    Args:
        events: Names of PAPI's preset events, one value each, such as ``PAPI_TOT_INS`` (instructions), ``PAPI_TOT_CYC`` (cycles) or
            ``PAPI_LST_INS`` (loads and stores).
    """

    source: ClassVar[Source | None] = Source(
        paper="Browne, Dongarra, Garner, Ho, Mucci, International Journal of High Performance Computing Applications 14 (2000)",
        code="aiim-research/ERASURE at d5bbbe5 (PAPI)",
        tested="counts that grow with the work, where the processor has counters (tests/unit/measures/test_flops.py)",
        deviations=("The method is run again from the same seeds, so that its own time is taken without the counters.",),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    ideal: ClassVar[Literal["gold"] | float | None] = None
    on_jury: ClassVar[bool] = False

    events: Annotated[tuple[str, ...], MinLen(1)] = ("PAPI_TOT_INS", "PAPI_TOT_CYC")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """One value for each event."""
        remake = evaluation.subject.remake
        if remake is None:
            raise RequirementNotMet(f"{self.title} reruns the method, which needs an experiment run")
        papi, known = _papi()
        codes = [self._code(known, name) for name in self.events]
        try:
            events = papi.create_eventset()
            for code in codes:
                papi.add_event(events, code)
            papi.start(events)
        except Exception as error:
            raise RequirementNotMet(
                f"this machine does not count {', '.join(self.events)} ({type(error).__name__}: {error}); see what "
                "papi_avail lists, and allow users to read counters (kernel.perf_event_paranoid)"
            ) from error
        try:
            with torch.enable_grad():
                remake()
        finally:
            counts = papi.stop(events)
            papi.cleanup_eventset(events)
            papi.destroy_eventset(events)
        return [Value(value=float(n), name=f"{self.title} {name}") for name, n in zip(self.events, counts, strict=True)]

    def _code(self, known: Any, name: str) -> int:
        code = getattr(known, name, None)
        if not isinstance(code, int):
            raise RequirementNotMet(f'PAPI has no preset event "{name}"; see what papi_avail lists')
        return code


def _papi() -> tuple[Any, Any]:
    """The library, ready for use, and its table of events."""
    try:
        papi, events = importlib.import_module("pypapi.papi_low"), importlib.import_module("pypapi.events")
    except ImportError as error:
        raise RequirementNotMet(
            "hardware counters are read through PAPI, which is not installed: pip install python-papi (Linux only)"
        ) from error
    papi.library_init()
    return papi, events
