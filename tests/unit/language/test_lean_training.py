"""Training steps that keep less give the values and gradients of plain ones."""

import contextlib
import copy
import ctypes
import importlib.util
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, batch_of
from tiny_llama import gradients, model_input
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from erasure.functional import chunked_losses
from erasure.functional.chunked_losses import chunked_token_losses
from erasure.functional.short_attention import short_attention
from erasure.functional.tokens import answer_tokens, token_losses, token_mean
from erasure.models import language, lean_layers
from erasure.models.language import SmallLlama
from erasure.models.lean_layers import lean
from erasure.training import devices
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import build_model
from erasure.unlearners.answers import losses_for
from erasure.unlearners.contract import frozen_copy

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or importlib.util.find_spec("peft") is None,
    reason="transformers and peft are not installed",
)

BATCH = batch_of(range(4))


def llama(lora_rank=2, dtype=torch.float64):
    """A tiny Llama whose updates, if it has any, are no longer zero."""
    model = build_model(
        SmallLlama(width=16, n_layers=2, n_heads=2, lora_rank=lora_rank), model_input(DATA), 0, torch.device("cpu")
    )
    model = model.to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
                parameter.data = parameter.data.float() if dtype == torch.bfloat16 else parameter.data
            elif "lora_A" in name and dtype == torch.bfloat16:
                parameter.data = parameter.data.float()
    return model.train()


def trained_gradients(model, loss):
    return gradients(nn.ParameterList(p for p in model.parameters() if p.requires_grad), loss)


def kept_bytes(model):
    """What autograd keeps of a forward pass beside the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = token_mean(model(BATCH.x), BATCH.y)  # alive, so that no address is used twice
    del loss
    return sum(found.values())


def plainly(monkeypatch):
    monkeypatch.setattr(language, "lean", lambda network: torch.enable_grad())


def test_a_network_with_updates_has_the_loss_and_the_gradients_of_the_plain_one(monkeypatch):
    model = llama()
    loss = token_mean(model(BATCH.x), BATCH.y)
    found = trained_gradients(model, loss)
    plainly(monkeypatch)
    expected = token_mean(model(BATCH.x), BATCH.y)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    # The norms of transformers compute in float32 whatever the type of the weights.
    torch.testing.assert_close(found, trained_gradients(model, expected), rtol=1e-5, atol=1e-7)


def test_a_network_in_half_precision_keeps_less_and_is_as_near_to_the_exact_gradient(monkeypatch):
    exact, model = llama(), llama(dtype=torch.bfloat16)
    with torch.no_grad():
        for wide, narrow in zip(exact.parameters(), model.parameters(), strict=True):
            wide.copy_(narrow)
    n_lean, found = kept_bytes(model), trained_gradients(model, token_mean(model(BATCH.x), BATCH.y))
    plainly(monkeypatch)
    truth = trained_gradients(exact, token_mean(exact(BATCH.x), BATCH.y))
    n_plain, plain = kept_bytes(model), trained_gradients(model, token_mean(model(BATCH.x), BATCH.y))
    assert n_lean < 0.6 * n_plain
    assert (found - truth).norm() < 1.5 * (plain - truth).norm() < 0.1 * truth.norm()


def layer_of(model, name):
    return next(module for key, module in model.named_modules() if key.endswith(name))


@pytest.mark.parametrize("name", ["q_proj", "mlp.down_proj", "mlp"])
def test_a_layer_with_an_update_has_the_gradients_of_the_plain_one_in_every_digit(name):
    model = llama()
    layer = layer_of(model, name)
    width = layer.gate_proj.in_features if name == "mlp" else layer.in_features
    x = torch.randn(3, 5, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    with lean(model):
        assert "forward" in vars(layer)
        leaner = layer(x)
    plain = layer(x)
    torch.testing.assert_close(leaner, plain, rtol=1e-13, atol=1e-14)
    direction = torch.linspace(-1, 1, plain.numel(), dtype=torch.float64).reshape(plain.shape)
    for first, second in zip(
        torch.autograd.grad(leaner, wanted, direction), torch.autograd.grad(plain, wanted, direction), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-13)


def test_layers_are_what_they_were_after_the_call_and_where_nothing_is_learned():
    model = llama()
    model(BATCH.x)
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad(), lean(model):
        assert not any("forward" in vars(module) for module in model.modules())
    with pytest.raises(ZeroDivisionError), lean(model):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_copy_made_meanwhile_runs_its_own_weights():
    model = llama()
    with lean(model):
        other = frozen_copy(model)
    with torch.no_grad():
        before = other(BATCH.x)
        for parameter in model.parameters():
            parameter.zero_()
        torch.testing.assert_close(other(BATCH.x), before, rtol=0, atol=0)


class OffsetRMSNorm(nn.Module):
    """A norm whose weight is an offset of one, as some families have it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(16, dtype=torch.float64), requires_grad=False)
        self.eps = 1e-6

    def forward(self, x):
        return (1 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def left_alone_because_of(change):
    model = llama()
    layer = layer_of(model, "q_proj")
    change(model, layer)
    with lean(model):
        return "forward" not in vars(layer)


def test_layers_that_do_more_than_the_formula_are_left_alone():
    def dropping(model, layer):
        layer.lora_dropout["default"] = nn.Dropout(0.5)

    def trained(model, layer):
        layer.base_layer.weight.requires_grad_(True)

    def listened_to(model, layer):
        layer.base_layer.register_forward_hook(lambda *_: None)

    def recomputed(model, layer):
        enable = getattr(model.network, "activation_checkpointing_enable", None) or model.network.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def switched_off(model, layer):
        layer.enable_adapters(False)

    assert not left_alone_because_of(lambda model, layer: None)
    for change in (dropping, trained, listened_to, recomputed, switched_off):
        assert left_alone_because_of(change), change.__name__


def test_what_a_norm_gives_is_made_again_for_its_readers_in_every_digit(monkeypatch):
    model = llama(dtype=torch.bfloat16)
    loss = token_mean(model(BATCH.x), BATCH.y)
    wanted = [p for p in model.parameters() if p.requires_grad]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    again = torch.autograd.grad(loss, wanted)
    n_bytes = kept_bytes(model)
    monkeypatch.setattr(lean_layers._Normed, "is_of", lambda self, y: False)
    kept = torch.autograd.grad(token_mean(model(BATCH.x), BATCH.y), wanted)
    assert n_bytes < kept_bytes(model)
    for each in zip(first, again, kept, strict=True):
        assert torch.equal(each[0], each[1])
        assert torch.equal(each[0], each[2])


def test_an_output_that_was_written_over_is_not_made_again():
    x = torch.ones(2, 3)
    made = lean_layers._Normed(x, x, torch.ones(2, 1), torch.ones(3))
    assert made.is_of(x)
    x.add_(1)
    assert not made.is_of(x)


class Memory(ctypes.Structure):
    """What the C library says of its memory, mallinfo2 (3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "b", "c", "d", "mapped", "f", "g", "used", "free", "top")]


@pytest.mark.skipif(devices._c_library() is None, reason="the C library is not glibc")
def test_large_tensors_of_a_forward_pass_have_memory_of_their_own():
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("an older glibc")
    library.mallinfo2.restype = Memory
    devices.keep_freed_memory()
    size, found = 4 * devices.APART, []
    with contextlib.suppress(ValueError), devices.mapped_apart():
        before = library.mallinfo2().mapped
        inside = []  # what is free already is taken first, however large
        while library.mallinfo2().mapped == before and len(inside) < 5_000:
            inside.append(torch.empty(size, dtype=torch.uint8))
        found.append(library.mallinfo2().mapped - before)
        raise ValueError
    before = library.mallinfo2().mapped
    outside = torch.empty(size, dtype=torch.uint8)
    found.append(library.mallinfo2().mapped - before)
    large = torch.empty(48 << 20, dtype=torch.uint8)  # of a size that a run keeps, and the C library by itself does not
    found.append(library.mallinfo2().mapped - before)
    assert found[0] >= size
    assert found[1:] == [0, 0]
    assert inside[-1].numel() == outside.numel() < large.numel()  # all are still there


def test_a_norm_with_another_formula_is_left_alone():
    model = llama()
    other = OffsetRMSNorm()
    model.network.model.norm = other
    with lean(model):
        assert "forward" not in vars(other)
        assert "forward" in vars(layer_of(model, "input_layernorm"))


def test_attention_over_short_samples_is_that_of_torch(monkeypatch):
    monkeypatch.setattr("erasure.functional.short_attention._CHUNK", 100)  # several chunks
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(2, n, 7, 4, dtype=torch.float64, generator=generator)
        .transpose(1, 2)
        .contiguous()
        .transpose(1, 2)
        .requires_grad_()
        for n in (6, 3, 3)
    )
    found = short_attention(q, k, v, 0.3)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    direction = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    for first, second in zip(
        torch.autograd.grad(found, (q, k, v), direction), torch.autograd.grad(expected, (q, k, v), direction), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-13)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.size = max(self.size, found.numel())
        return found


@pytest.mark.parametrize("is_frozen", [True, False])
def test_losses_in_chunks_are_those_of_all_logits(monkeypatch, is_frozen):
    monkeypatch.setattr(chunked_losses, "CHUNK", 90)
    generator = torch.Generator().manual_seed(2)
    states, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=needed)
        for shape, needed in (((7, 3), True), ((30, 3), not is_frozen), ((30,), not is_frozen))
    )
    y = torch.randint(0, 30, (7,), generator=generator)
    wanted = [each for each in (states, weight, bias) if each.requires_grad]
    weights = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    with Largest() as largest:
        losses = chunked_token_losses(states, weight, bias, y)
        found = torch.autograd.grad((weights * losses).sum(), wanted)
    assert largest.size <= 90
    plain = F.cross_entropy(states @ weight.t() + bias, y, reduction="none")
    torch.testing.assert_close(losses, plain, rtol=1e-13, atol=0)
    for first, second in zip(found, torch.autograd.grad((weights * plain).sum(), wanted), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-13)


def test_chunks_do_not_round_the_bias_in_half_precision(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((400, 8), (30, 8), (30,)))
    y = torch.randint(0, 30, (400,), generator=generator)

    def gradient(size, dtype=torch.bfloat16):
        monkeypatch.setattr(chunked_losses, "CHUNK", size)
        given = bias.to(dtype).requires_grad_()
        losses = chunked_token_losses(states.to(dtype), weight.to(dtype), given, y)
        return torch.autograd.grad(losses.sum(), given)[0].double()

    exact = gradient(10**6, torch.float64)
    whole, parts = ((gradient(size) - exact).norm() for size in (10**6, 90))
    assert parts < 1.5 * whole


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_losses_that_a_network_gives_are_those_of_its_logits(monkeypatch, lora_rank):
    model = llama(lora_rank).eval()
    assert not model.gives_losses  # of a small vocabulary
    expected = token_losses(model(BATCH.x), BATCH.y)
    plain = trained_gradients(model, expected.sum())
    monkeypatch.setattr(language, "LARGE_VOCABULARY", 1)
    monkeypatch.setattr(chunked_losses, "CHUNK", 1000)
    assert model.gives_losses
    found = losses_for(model, BATCH, 4, torch.tensor(1)).losses
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(trained_gradients(model, found.sum()), plain, rtol=1e-6, atol=1e-8)
    loss = Criterion("generation").of(model, BATCH.x, BATCH.y)
    torch.testing.assert_close(loss, token_mean(model(BATCH.x), BATCH.y), rtol=1e-12, atol=0)
    model.network.get_output_embeddings().register_forward_hook(lambda *_: None)
    assert not model.gives_losses


def test_losses_under_a_transformation_of_torch_come_from_logits(monkeypatch):
    monkeypatch.setattr(language, "LARGE_VOCABULARY", 1)
    model = llama(None).eval()
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(given):
        return torch.func.functional_call(model, given, (BATCH.x, BATCH.y)).sum()

    found = torch.func.grad(loss)(weights)
    expected = trained_gradients(model, model(BATCH.x, BATCH.y).sum())
    torch.testing.assert_close(torch.cat([found[name].flatten() for name in weights]), expected, rtol=1e-6, atol=1e-8)


def test_a_trained_copy_differs_from_its_original_in_updates_alone():
    model = llama()
    before = copy.deepcopy(model.state_dict())
    optimizer = Optimizer.of("SGD", lr=0.1).build([p for p in model.parameters() if p.requires_grad])
    token_mean(model(BATCH.x), BATCH.y).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_a_batch_in_parts_by_length_has_the_losses_and_the_gradients_of_the_whole_one(monkeypatch):
    model = llama()
    lengths = (BATCH.x[:, 1] != 0).sum(1).tolist()
    x = BATCH.x.clone()
    x[1, 1, lengths[1] // 2 :] = x[3, 1, lengths[3] // 2 + 3 :] = 0  # two answers are cut
    y = answer_tokens(x)
    expected = model(x, y)
    plain = trained_gradients(model, expected.sum())
    monkeypatch.setattr(language, "LARGE_VOCABULARY", 1)
    widths = []
    states = model._states
    monkeypatch.setattr(model, "_states", lambda ids: (widths.append(tuple(ids.shape)), states(ids))[1])
    found = model(x, y)
    assert [n for n, _ in widths] == [2, 2]
    assert widths[0][1] < widths[1][1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(trained_gradients(model, found.sum()), plain, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(token_losses(model(x), y), expected, rtol=1e-6, atol=1e-8)
    seen = []
    handle = layer_of(model, "layers.1").register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    model(x)
    handle.remove()
    assert seen == [4]


def test_blocks_with_memory_of_their_own_can_be_inside_one_another(monkeypatch):
    told = {}
    library = SimpleNamespace(mallopt=lambda parameter, size: told.update({parameter: size}))
    monkeypatch.setattr(devices, "_c_library", lambda: library)
    with devices.mapped_apart(4 << 20):
        with devices.mapped_apart():
            assert told[-3] == devices.APART
        assert told[-3] == 4 << 20
