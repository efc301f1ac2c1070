"""Squared per-sample gradients against a loop over batches of one, in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from erasure.errors import DataError, Diverged, RequirementNotMet
from erasure.training.per_sample import (
    batch_absolute_gradients,
    batch_squared_gradients,
    per_sample_gradients,
    squared_gradients,
    true_fisher,
)
from erasure.training.per_sample.engine import Engine
from erasure.training.per_sample.scope import evaluation, selected_parameters
from erasure.training.per_sample.seeds import fisher_seeder, loss_seeder

N, K = 7, 4


@pytest.fixture(autouse=True)
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def cross_entropy(logits, y):
    return F.cross_entropy(logits, y, reduction="none")


def image(channels=3, size=9):
    return lambda: torch.randn(N, channels, size, size, dtype=torch.float64)


def vector(width=6):
    return lambda: torch.randn(N, width, dtype=torch.float64)


def sequence(length=5, width=6):
    return lambda: torch.randn(N, length, width, dtype=torch.float64)


def tokens(length=6, n_tokens=5):
    return lambda: torch.randint(0, n_tokens, (N, length))


class Pool(nn.Module):
    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return x.mean(self.axis)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.second(F.relu(self.norm(self.first(x)), inplace=True)))


class Shared(nn.Module):
    """One layer called twice, and one table used as input and as output."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.twice = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, K)

    def forward(self, x):
        h = torch.tanh(self.twice(torch.tanh(self.twice(self.embedding(x)))))
        scores = self.norm(h) @ self.embedding.weight.t()
        return self.head(h.mean(1)) + scores.mean(1)[:, :K]


class TiedModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight
        self.norms = nn.ModuleList([nn.BatchNorm1d(6), nn.BatchNorm1d(6)])
        self.norms[1].weight = self.norms[0].weight
        self.head = nn.Linear(6, K)

    def forward(self, x):
        return self.head(self.norms[1](torch.tanh(self.b(self.norms[0](torch.tanh(self.a(x)))))))


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.unused = nn.Parameter(torch.randn(2))
        self.body = nn.Linear(6, 6)
        self.outside = nn.Linear(6, K)
        self.idle = nn.Linear(3, 3)

    def forward(self, x):
        h = torch.tanh(self.body(x) * self.scale)
        return F.linear(h, self.outside.weight, self.outside.bias)


class CalledAndReadDirectly(nn.Module):
    """A layer that is called once and whose weight enters the logits a second time."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, K)

    def forward(self, x):
        h = self.norm(torch.tanh(self.body(x)))
        return self.head(h * self.body.weight.diag()) + (self.norm.weight**2).sum()


class SequenceFirst(nn.Module):
    """Layers that see (time, batch, width), with as many steps as samples."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, K)

    def forward(self, x):
        h = self.norm(torch.tanh(self.body(x.transpose(0, 1))))
        return self.head((h * torch.arange(1, len(h) + 1).view(-1, 1, 1)).sum(0))


class Branching(nn.Module):
    """Control flow that depends on the data, which vmap refuses."""

    def __init__(self):
        super().__init__()
        self.gate, self.a, self.b = nn.Parameter(torch.randn(6)), nn.Linear(6, K), nn.Linear(6, K)

    def forward(self, x):
        return torch.cat([self.a(r * self.gate) if float(r.sum()) > 0 else self.b(r * self.gate) for r in x.split(1)])


class MixesSamples(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, K)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.head(h - 0.5 * h.mean(0))


class KeepsReference(nn.Module):
    """A parameter reached through a plain list, which ``functional_call`` cannot replace."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(K, 6))
        self.references = [self.weight]

    def forward(self, x):
        return F.linear(x, self.references[0])


class Transformer(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=batch_first)
        self.head = nn.Linear(8, K)

    def forward(self, x):
        h = self.embedding(x)
        h = self.layer(h) if self.batch_first else self.layer(h.transpose(0, 1)).transpose(0, 1)
        return self.head(h.mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, K)

    def forward(self, x):
        return self.head(self.attention(x, x, x)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.GRU(6, 5, batch_first=True), nn.Linear(5, K)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class Subclassed(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x)


class NamedInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, K)

    def forward(self, x):
        return self.head(input=torch.tanh(self.body(input=x)))


class ChangesInputInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 6), nn.Linear(36, K)

    def forward(self, x):
        x = x.clone()
        h = self.table(x)
        return self.head(h.flatten(1) + 0.1 * x.repeat_interleave(6, 1))


def small_cnn(channels=3):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, groups=2, dilation=2, padding=2),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, K),
    )


def conv_head(conv):
    return lambda: nn.Sequential(conv(), nn.Tanh(), Pool((2, 3)), nn.LazyLinear(K))


CASES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, K, bias=False)), vector()),
    "cnn": (small_cnn, image()),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), Residual(4), Residual(4), Pool((2, 3)), nn.Linear(4, K)),
        image(size=5),
    ),
    "conv same padding, reflected": (
        conv_head(lambda: nn.Conv2d(3, 4, (2, 3), padding="same", dilation=(1, 2), padding_mode="reflect")),
        image(),
    ),
    "conv circular, uneven": (
        conv_head(lambda: nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 2), padding_mode="circular", groups=3)),
        image(),
    ),
    "conv valid, replicate": (conv_head(lambda: nn.Conv2d(3, 4, 3, padding="valid", padding_mode="replicate")), image()),
    "depthwise": (conv_head(lambda: nn.Conv2d(3, 3, 3, groups=3, bias=False)), image()),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(5, 4, 3, padding="same"),
            nn.InstanceNorm1d(4, affine=True),
            nn.Tanh(),
            nn.Conv1d(4, 4, 2, stride=2),
            nn.Flatten(),
            nn.Linear(12, K),
        ),
        sequence(),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 3, 2, stride=2), nn.BatchNorm3d(3), nn.Tanh(), nn.Flatten(), nn.Linear(24, K)),
        lambda: torch.randn(N, 1, 4, 5, 5, dtype=torch.float64),
    ),
    "pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            nn.Conv2d(4, 4, 2),
            nn.MaxPool2d((2, 1), dilation=(2, 1)),
            nn.Flatten(),
            nn.Linear(16, K),
        ),
        image(size=8),
    ),
    "batch norm first": (
        lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, K)),
        vector(),
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.LayerNorm((3, 9, 9)),
            nn.InstanceNorm2d(3, affine=True),
            nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
            nn.Tanh(),
            nn.Flatten(),
            nn.LayerNorm(243, bias=False),
            nn.RMSNorm(243),
            nn.Linear(243, K),
        ),
        image(),
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 5), Pool(1), nn.Linear(5, K)),
        sequence(),
    ),
    "embedding, repeated tokens": (
        lambda: nn.Sequential(nn.Embedding(5, 6, padding_idx=2), nn.Tanh(), Pool(1), nn.Linear(6, K)),
        tokens(),
    ),
    "embedding of one token": (
        lambda: nn.Sequential(nn.Embedding(5, 6), nn.Tanh(), nn.Linear(6, K)),
        lambda: torch.randint(0, 5, (N,)),
    ),
    "embedding, by frequency": (
        lambda: nn.Sequential(nn.Embedding(5, 6, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(36, K)),
        tokens(),
    ),
    "embedding, sparse": (lambda: nn.Sequential(nn.Embedding(5, 6, sparse=True), nn.Flatten(), nn.Linear(36, K)), tokens()),
    "shared": (Shared, tokens()),
    "tied modules": (TiedModules, vector()),
    "own parameter": (OwnParameter, vector()),
    "called and read directly": (CalledAndReadDirectly, vector()),
    "sequence first, as long as the batch": (SequenceFirst, sequence(length=N)),
    "branching": (Branching, vector()),
    "mixes samples": (MixesSamples, vector()),
    "batch statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), Pool((2, 3)), nn.Linear(4, K)),
        image(),
    ),
    "keeps a reference": (KeepsReference, vector()),
    "attention": (Attention, sequence()),
    "transformer": (lambda: Transformer(True), tokens()),
    "transformer, sequence first": (lambda: Transformer(False), tokens(length=N)),
    "recurrent": (Recurrent, sequence()),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, K)), vector()),
    "subclass": (lambda: nn.Sequential(Subclassed(6, 5), nn.Tanh(), nn.Linear(5, K)), vector()),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.PReLU(), Pool((2, 3)), nn.Linear(4, K)),
        image(size=4),
    ),
    "input by name": (NamedInput, vector()),
    "input read again": (ChangesInputInPlace, tokens()),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, K)), vector()),
}

FAST = [
    "mlp",
    "pooling",
    "cnn",
    "residual",
    "depthwise",
    "conv1d",
    "conv3d",
    "norms",
    "sequence",
    "embedding, repeated tokens",
    "embedding of one token",
    "batch norm first",
    "conv same padding, reflected",
    "embedding, sparse",
    "input by name",
]


def build(name, dtype=torch.float64, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make, draw = CASES[name]
        model, x = make(), draw()
        y = torch.randint(0, K, (N,))
        model.to(torch.float64)(x)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    model.zero_grad()
    return model.to(dtype), x.to(dtype) if x.is_floating_point() else x, y


def batches(x, y, size=3):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]


def brute_force(model, x, y, weights_of):
    """Mean over samples of sum_s w_s (d CE(logits, s) / d theta)^2, one sample and one label at a time."""
    model = copy.deepcopy(model) if "references" not in vars(model) else model
    model.eval()
    names, leaves = zip(*model.named_parameters(), strict=True)
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for i in range(len(y)):
        logits = model(x[i : i + 1])
        for label, weight in weights_of(logits.detach()[0], int(y[i])):
            loss = F.cross_entropy(logits, torch.tensor([label]))
            grads = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
            for name, gradient in zip(names, grads, strict=True):
                if gradient is not None:
                    total[name] += weight * gradient.to_dense().double().square() / len(y)
    return total


def empirical(logits, label):
    return [(label, 1.0)]


def predicted(logits, label):
    return list(enumerate(logits.double().softmax(0).tolist()))


def assert_same(found, expected, rtol=1e-10, floor=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=rtol * scale + floor, msg=lambda m, name=name: f"{name}: {m}")


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
            assert first.shape == found[next(iter(found))].shape[-first.ndim :] and bool(found[next(iter(found))].any())
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
        squared_gradients(model, batches(x, y), cross_entropy, parameters=["3.weigth"])


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
    from erasure.training.per_sample import convolution, fallback, linear

    model, x, y = build("cnn")
    sequences = build("sequence")
    shared = build("shared")
    expected = [squared_gradients(m, [(a, b)], cross_entropy) for m, a, b in ((model, x, y), sequences, shared)]
    for module, constant in (
        (convolution, "CHUNK_ELEMENTS"),
        (convolution, "_KEPT_PATCHES"),
        (linear, "CHUNK_ELEMENTS"),
        (fallback, "_CHUNK_ELEMENTS"),
    ):
        monkeypatch.setattr(module, constant, 400)
    for (m, a, b), value in zip(((model, x, y), sequences, shared), expected, strict=True):
        assert_same(squared_gradients(m, [(a, b)], cross_entropy), value)


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
