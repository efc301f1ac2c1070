"""Squared per-sample gradients against a loop over batches of one, in float64."""

from __future__ import annotations

import copy
import weakref
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from per_sample_cases import (
    CASES,
    FAST,
    K,
    N,
    Pool,
    assert_same,
    batches,
    brute_force,
    build,
    cross_entropy,
    empirical,
    predicted,
)
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F

from erasure.errors import DataError, Diverged, RequirementNotMet
from erasure.training.per_sample import (
    batch_absolute_gradients,
    batch_squared_gradients,
    per_sample_gradients,
    squared_gradients,
    true_fisher,
)
from erasure.training.per_sample.engine import Engine
from erasure.training.per_sample.layer import Scratch
from erasure.training.per_sample.recording import hand_over
from erasure.training.per_sample.scope import evaluation, selected_parameters
from erasure.training.per_sample.seeds import fisher_seeder, loss_seeder


@pytest.fixture(autouse=True)
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("name", CASES)
def test_squared_gradients_equal_a_loop_over_single_samples(name):
    model, x, y = build(name)
    assert_same(squared_gradients(model, batches(x, y), cross_entropy), brute_force(model, x, y, empirical))


@pytest.mark.parametrize("name", CASES)
def test_true_fisher_equals_the_sum_over_labels(name):
    model, x, y = build(name)
    assert_same(true_fisher(model, batches(x, y, 4), K), brute_force(model, x, y, predicted))


@pytest.mark.parametrize("name", CASES)
def test_results_do_not_depend_on_the_batch_size(name):
    model, x, y = build(name)
    whole = squared_gradients(model, [(x, y)], cross_entropy)
    for size in (1, 2, 6):
        assert_same(squared_gradients(model, batches(x, y, size), cross_entropy), whole)


@pytest.mark.parametrize("name", CASES)
def test_squares_of_per_sample_gradients_have_the_same_mean(name):
    model, x, y = build(name)
    gradients = per_sample_gradients(model, x, y, cross_entropy)
    assert all(gradients[key].shape == (N, *p.shape) for key, p in model.named_parameters())
    assert_same({key: g.square().mean(0) for key, g in gradients.items()}, squared_gradients(model, [(x, y)], cross_entropy))
    one = per_sample_gradients(model, x[2:3], y[2:3], cross_entropy, method="loop")
    assert_same({key: g[2] for key, g in gradients.items()}, {key: g[0] for key, g in one.items()})


@pytest.mark.parametrize("name", ["cnn", "shared", "transformer", "recurrent", "own parameter"])
@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_every_method_gives_the_same_numbers(name, method):
    model, x, y = build(name)
    assert_same(
        squared_gradients(model, batches(x, y), cross_entropy, method=method),
        squared_gradients(model, batches(x, y), cross_entropy),
    )
    assert_same(true_fisher(model, batches(x, y), K, method=method), true_fisher(model, batches(x, y), K))


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "sequence", "embedding, repeated tokens", "norms", "transformer"])
def test_a_float32_model_agrees_with_its_float64_self(name):
    model, x, y = build(name, torch.float32)
    exact = copy.deepcopy(model).double()
    x64 = x.double() if x.is_floating_point() else x
    found = squared_gradients(model, batches(x, y), cross_entropy)
    assert all(value.dtype == torch.float64 for value in found.values())
    floor = 1e-5 * max(float(value.max()) for value in found.values())
    assert_same(found, squared_gradients(exact, batches(x64, y), cross_entropy), rtol=1e-5, floor=floor * 1e-3)
    assert_same(true_fisher(model, batches(x, y), K), true_fisher(exact, batches(x64, y), K), rtol=1e-5, floor=floor * 1e-3)


def test_a_sure_first_prediction_leaves_closed_forms_in_use(monkeypatch):
    model, y = nn.Linear(3, 2), torch.zeros(4, dtype=torch.int64)
    x = torch.tensor([60.0, 1.0, 2.0, 0.5]).unsqueeze(1).expand(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.2] * 3, [-0.2] * 3]))
    (first,) = torch.autograd.grad(F.cross_entropy(model(x[:1]), y[:1]), model.weight)
    assert first.abs().max() > 0
    assert not first.square().any()
    monkeypatch.setattr(Engine, "_add_fallback", lambda *_: pytest.fail("fell back"))
    squared_gradients(model, [(x, y)], cross_entropy)


@pytest.mark.parametrize("name", FAST)
def test_supported_layers_never_reach_a_fallback(name, monkeypatch):
    model, x, y = build(name)
    monkeypatch.setattr(Engine, "_add_fallback", lambda *_: pytest.fail("fell back"))
    monkeypatch.setattr(Engine, "_add_one_by_one", lambda *_: pytest.fail("fell back"))
    squared_gradients(model, batches(x, y), cross_entropy)


def fallback_parameters(name):
    model, x, y = build(name)
    asked = set()
    original = Engine._add_fallback
    chosen = selected_parameters(model, None)
    with evaluation(model, chosen), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Engine, "_add_fallback", lambda self, parameters, *rest: (asked.update(parameters), original(self, parameters, *rest))
        )
        Engine(model, chosen, loss_seeder(cross_entropy), "auto", torch.float64).add(x, y)
    return asked


def test_only_what_no_rule_covers_falls_back():
    assert fallback_parameters("shared") == {"embedding.weight", "twice.weight", "twice.bias"}
    assert fallback_parameters("own parameter") == {"scale", "outside.weight", "outside.bias"}
    assert fallback_parameters("called and read directly") == {"body.weight", "body.bias", "norm.weight", "norm.bias"}
    assert fallback_parameters("sequence first, as long as the batch") == {"body.weight", "body.bias", "norm.weight", "norm.bias"}
    assert {n.split(".")[1] for n in fallback_parameters("transformer")} == {"self_attn"}
    assert {n.split(".")[0] for n in fallback_parameters("tied modules")} == {"a", "b", "norms"}


class Tampering(nn.Module):
    """A head that runs once or twice depending on the data of the whole batch."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, K)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.head(torch.tanh(self.body(h)) if bool((x[:, 0] > 0).all()) else h)


def test_each_batch_is_checked_for_layers_called_again():
    torch.manual_seed(0)
    model = Tampering().double()
    x, y = torch.randn(6, 6, dtype=torch.float64), torch.randint(0, K, (6,))
    x[:3, 0], x[3:, 0] = -1, 1
    assert_same(squared_gradients(model, batches(x, y), cross_entropy), brute_force(model, x, y, empirical))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5),
    channels=st.integers(1, 3),
    out=st.integers(1, 3),
    size=st.integers(3, 7),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    n_classes=st.integers(2, 4),
    batch_size=st.integers(1, 5),
)
def test_any_convolution_equals_the_loop(
    n, channels, out, size, kernel, stride, padding, dilation, groups, n_classes, batch_size
):
    torch.manual_seed(0)
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        padding = 2
    conv = nn.Conv2d(channels * groups, out * groups, kernel, stride, padding, dilation, groups)
    model = nn.Sequential(
        conv, nn.BatchNorm2d(out * groups), nn.Tanh(), Pool((2, 3)), nn.Linear(out * groups, n_classes)
    ).double()
    x = torch.randn(n, channels * groups, size, size, dtype=torch.float64)
    y = torch.randint(0, n_classes, (n,))
    assert_same(squared_gradients(model, batches(x, y, batch_size), cross_entropy), brute_force(model, x, y, empirical))
    assert_same(true_fisher(model, batches(x, y, batch_size), n_classes), brute_force(model, x, y, predicted))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5), length=st.integers(1, 6), n_tokens=st.integers(1, 4), padding=st.booleans(), batch_size=st.integers(1, 5)
)
def test_any_token_batch_equals_the_loop(n, length, n_tokens, padding, batch_size):
    torch.manual_seed(0)
    embedding = nn.Embedding(n_tokens, 3, padding_idx=0 if padding else None)
    model = nn.Sequential(embedding, nn.Linear(3, 3), nn.Tanh(), Pool(1), nn.Linear(3, K)).double()
    x, y = torch.randint(0, n_tokens, (n, length)), torch.randint(0, K, (n,))
    assert_same(squared_gradients(model, batches(x, y, batch_size), cross_entropy), brute_force(model, x, y, empirical))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-300, 300), min_size=2, max_size=6), st.booleans())
def test_fisher_seeds_factor_the_covariance_of_the_labels(values, mask):
    logits = torch.tensor([values], dtype=torch.float64)
    if mask:
        logits[0, -1] = -torch.inf
    seeds = fisher_seeder(len(values), "classification")(logits, torch.zeros(1))
    p = logits.softmax(1)[0]
    factor = seeds.stacked(0, seeds.count)[:, 0].t()
    torch.testing.assert_close(factor @ factor.t(), torch.diag(p) - torch.outer(p, p), rtol=0, atol=1e-12)


@pytest.mark.parametrize("squeeze", [False, True])
def test_binary_and_multilabel_fisher_equal_the_sum_over_labels(squeeze):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1), *([nn.Flatten(0)] if squeeze else [])).double()
    x, y = torch.randn(N, 6, dtype=torch.float64), torch.zeros(N)
    two = nn.Sequential(*copy.deepcopy(model)[:3], TwoLogits())
    assert_same(true_fisher(model, batches(x, y), 2, task="binary"), brute_force(two, x, y, predicted))
    multi = nn.Linear(6, 3).double()
    found = true_fisher(multi, batches(x, y), 3, task="multilabel")
    p = multi(x).detach().sigmoid()
    torch.testing.assert_close(found["weight"], (p * (1 - p)).t() @ x.square() / N)


class TwoLogits(nn.Module):
    def forward(self, z):
        return torch.cat([torch.zeros_like(z), z], 1)


def test_minibatch_gradients_are_squared_after_the_mean():
    model, x, y = build("cnn")
    found = batch_squared_gradients(model, batches(x, y), F.cross_entropy)
    absolute = batch_absolute_gradients(model, batches(x, y), F.cross_entropy)
    model.eval()
    expected = [torch.autograd.grad(F.cross_entropy(model(a), b), list(model.parameters())) for a, b in batches(x, y)]
    for i, name in enumerate(dict(model.named_parameters())):
        torch.testing.assert_close(found[name], torch.stack([g[i] for g in expected]).square().mean(0))
        torch.testing.assert_close(absolute[name], torch.stack([g[i] for g in expected]).abs().mean(0))
    assert_same(
        batch_squared_gradients(model, batches(x, y, 1), F.cross_entropy), squared_gradients(model, batches(x, y), cross_entropy)
    )


def snapshot(model):
    return (
        [m.training for m in model.modules()],
        [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        {key: value.clone() for key, value in model.state_dict().items()},
        [sorted(vars(m)) for m in model.modules()],
        torch.get_rng_state(),
    )


def failing(logits, y):
    raise ZeroDivisionError


@pytest.mark.parametrize("name", ["cnn", "shared", "branching", "mixes samples", "batch statistics", "transformer", "dropout"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_generator_come_back_as_they_were(name, fails):
    model, x, y = build(name)
    modules = list(model.modules())
    modules[0].training, modules[1].training = True, False
    first, *others = model.parameters()
    first.requires_grad_(False)
    others[0].grad = torch.ones_like(others[0])
    modules[1].register_forward_hook(lambda *_: None)
    before = snapshot(model)
    functions = [
        lambda loss: squared_gradients(model, batches(x, y), loss),
        lambda loss: per_sample_gradients(model, x, y, loss),
        lambda loss: batch_squared_gradients(model, batches(x, y), lambda z, t: loss(z, t).mean()),
        lambda loss: true_fisher(model, batches(x, y), K + fails),
    ]
    for function in functions:
        if fails:
            with pytest.raises((ZeroDivisionError, RequirementNotMet)):
                function(failing)
        else:
            found = function(cross_entropy)
            assert all(not value.requires_grad for value in found.values())
            assert list(found) == [parameter for parameter, value in model.named_parameters() if value.requires_grad]
            assert bool(found[next(iter(found))].any())
        after = snapshot(model)
        torch.testing.assert_close((after[1], after[3], after[5]), (before[1], before[3], before[5]), rtol=0, atol=0)
        assert (after[0], after[2], after[4]) == (before[0], before[2], before[4])


def test_random_models_do_not_consume_the_global_generator():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5))

    model, state = Noisy(6, K), torch.get_rng_state()
    squared_gradients(model, [(torch.randn(N, 6, generator=torch.Generator()), torch.zeros(N, dtype=torch.int64))], cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("empty", [[], [(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))]])
def test_no_samples_are_refused(empty):
    model = nn.Linear(6, K)
    for function in (
        lambda: squared_gradients(model, empty, cross_entropy),
        lambda: true_fisher(model, empty, K),
        lambda: batch_squared_gradients(model, empty, F.cross_entropy),
        lambda: per_sample_gradients(model, torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), cross_entropy),
    ):
        with pytest.raises(DataError, match="no samples"):
            function()


@pytest.mark.parametrize("wrap", [lambda z, h: (h, z), lambda z, h: SimpleNamespace(logits=z), lambda z, h: [h, z]])
def test_logits_are_found_in_what_the_model_returns(wrap):
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return wrap(self.inner(x), x)

    model, x, y = build("mlp")
    found = squared_gradients(Wrapped(model), batches(x, y), cross_entropy)
    assert_same({name.removeprefix("inner."): value for name, value in found.items()}, brute_force(model, x, y, empirical))


@pytest.mark.parametrize("form", ["dict", "tuple", "list"])
def test_inputs_may_be_structures(form):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(6, K), nn.Linear(6, K), nn.Parameter(torch.ones(K))

        def forward(self, x):
            if form == "list":
                return self.scale * (self.a(torch.stack([s["u"] for s in x])) + self.b(torch.stack([s["v"] for s in x])))
            u, v = (x["u"], x["v"]) if form == "dict" else x
            return self.scale * (self.a(u) + self.b(v))

    torch.manual_seed(0)
    model, u, v, y = Both().double(), torch.randn(N, 6).double(), torch.randn(N, 6).double(), torch.randint(0, K, (N,))

    def pack(ids):
        if form == "list":
            return [{"u": u[i], "v": v[i]} for i in range(N)[ids]]
        return {"u": u[ids], "v": v[ids]} if form == "dict" else (u[ids], v[ids])

    whole = squared_gradients(model, [(pack(slice(None)), y)], cross_entropy)
    single = squared_gradients(model, [(pack(slice(i, i + 1)), y[i : i + 1]) for i in range(N)], cross_entropy, method="loop")
    assert_same(whole, single)


def test_not_finite_gradients_are_reported_by_name():
    model = nn.Linear(6, K)
    x, y = torch.randn(N, 6), torch.zeros(N, dtype=torch.int64)
    x[3, 1] = torch.nan
    for function in (lambda: squared_gradients(model, batches(x, y), cross_entropy), lambda: true_fisher(model, [(x, y)], K)):
        with pytest.raises(Diverged, match="weight"):
            function()


def test_a_loss_that_is_not_per_sample_is_refused():
    model, x, y = build("mlp")
    other = nn.Parameter(torch.ones(()))
    losses = {
        "expected": F.cross_entropy,
        "depends on the others": lambda z, t: cross_entropy(z, t) / z.exp().sum(),
        "trainable tensors": lambda z, t: cross_entropy(z, t) * other,
    }
    for message, loss in losses.items():
        with pytest.raises(RequirementNotMet, match=message):
            squared_gradients(model, batches(x, y), loss)


def test_a_loss_without_gradient_gives_zeros():
    model, x, y = build("mlp")
    found = squared_gradients(model, batches(x, y), lambda z, t: torch.zeros(len(t)))
    assert not any(value.any() for value in found.values())
    assert not any(value.any() for value in per_sample_gradients(model, x, y, lambda z, t: torch.zeros(len(t))).values())


def test_parameters_can_be_restricted_and_unknown_names_are_refused():
    model, x, y = build("cnn")
    whole = squared_gradients(model, batches(x, y), cross_entropy)
    names = ["3.weight", "8.bias", "1.weight"]
    part = squared_gradients(model, batches(x, y), cross_entropy, parameters=names)
    assert list(part) == ["1.weight", "3.weight", "8.bias"]
    assert_same(part, {name: whole[name] for name in part})
    with pytest.raises(RequirementNotMet, match="did you mean"):
        squared_gradients(model, batches(x, y), cross_entropy, parameters=["3.weights"])


def test_the_sum_is_the_mean_times_the_number_of_samples():
    model, x, y = build("mlp")
    total = squared_gradients(model, batches(x, y), cross_entropy, normaliser="sum")
    assert_same({name: value / N for name, value in total.items()}, squared_gradients(model, batches(x, y), cross_entropy))


def test_results_are_the_same_inside_no_grad_and_inference_mode():
    model, x, y = build("shared")
    expected = squared_gradients(model, batches(x, y), cross_entropy)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert_same(squared_gradients(model, batches(x, y), cross_entropy), expected, rtol=0)


def test_large_batches_are_worked_in_chunks(monkeypatch):
    from erasure.training.per_sample import convolution, fallback, layer, linear

    model, x, y = build("cnn")
    sequences = build("sequence")
    shared = build("shared")
    expected = [squared_gradients(m, [(a, b)], cross_entropy) for m, a, b in ((model, x, y), sequences, shared)]
    for module, constant in (
        (convolution, "CHUNK_ELEMENTS"),
        (layer, "_KEPT_ELEMENTS"),
        (linear, "CHUNK_ELEMENTS"),
        (fallback, "_CHUNK_ELEMENTS"),
    ):
        monkeypatch.setattr(module, constant, 400)
    for (m, a, b), value in zip(((model, x, y), sequences, shared), expected, strict=True):
        assert_same(squared_gradients(m, [(a, b)], cross_entropy), value)


@pytest.mark.parametrize("kept", (0, 10**9))
def test_patches_that_are_not_kept_give_the_same_fisher(monkeypatch, kept):
    from erasure.training.per_sample import layer

    model, x, y = build("cnn")
    expected = true_fisher(model, batches(x, y), K)
    monkeypatch.setattr(layer, "_KEPT_ELEMENTS", kept)
    assert_same(true_fisher(model, batches(x, y), K), expected, rtol=0)


def test_a_backward_pass_holds_one_gradient_at_a_time():
    first, second, beside = (nn.Linear(3, 3) for _ in range(3))
    hidden = first(torch.randn(4, 3))
    skipped = nn.Linear(3, 3)(torch.randn(4, 3))
    outputs = [hidden, second(hidden.relu()), beside(hidden.tanh()), skipped]
    wanted = torch.autograd.grad((outputs[1] * outputs[2]).sum(), outputs[:3], retain_graph=True)
    held, alive, found = [], [], {}

    def take(number, gradient):
        alive.append(sum(reference() is not None for reference in held))
        held.append(weakref.ref(gradient))
        found[number] = gradient.clone()

    edges = {number: get_gradient_edge(output) for number, output in enumerate(outputs)}
    hand_over((outputs[1] * outputs[2]).sum(), edges, take, keep=False)
    assert found.keys() == {0, 1, 2}
    assert all(torch.equal(found[number], wanted[number]) for number in found)
    assert max(alive) <= 2  # of a node with two inputs, both gradients are made at once


def test_a_wrong_rule_or_twin_is_noticed_and_not_used(monkeypatch):
    from erasure.training.per_sample.linear import LinearRule
    from erasure.training.per_sample.normalisation import BatchNormRule

    model, x, y = build("cnn")
    expected = brute_force(model, x, y, empirical)
    squares, twin = LinearRule.squares, BatchNormRule.twin
    monkeypatch.setattr(LinearRule, "squares", lambda self: {key: 1.01 * value for key, value in squares(self).items()})
    assert_same(squared_gradients(model, batches(x, y), cross_entropy), expected)
    monkeypatch.setattr(
        BatchNormRule, "twin", staticmethod(lambda module, z: 1.01 * twin(module, z) if z.requires_grad else None)
    )
    assert_same(squared_gradients(model, batches(x, y), cross_entropy), expected)


def test_scratch_gives_the_same_memory_again_and_larger_where_it_is_too_small():
    scratch, like = Scratch(), torch.zeros(1)
    first = scratch.of("product", (2, 3), like)
    assert scratch.of("product", (3, 2), like).data_ptr() == first.data_ptr()
    assert scratch.of("patches", (2, 3), like).data_ptr() != first.data_ptr()
    assert scratch.of("product", (4, 5), like).shape == (4, 5)
    assert scratch.of("product", (2, 3), like.double()).dtype == torch.float64
