"""Models and inputs on which squared per-sample gradients are tried, and the loop over batches of one that they must equal."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

N, K = 7, 4


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


class ReadsInputAgain(nn.Module):
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
    "input read again": (ReadsInputAgain, tokens()),
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
