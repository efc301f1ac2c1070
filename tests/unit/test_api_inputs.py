"""What people hold, given to the Python door."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import erasure
from erasure.errors import DataError, RequirementNotMet, UnlearningWarning


class WithMask(nn.Module):
    """A classifier of texts that is called as those of transformers are."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        return self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_rows_with_masks_reach_the_model_by_name():
    model = WithMask()
    rows = [{"input_ids": [k % 9 + 1, 2, 0], "attention_mask": [1, 1, 0], "label": k % 2} for k in range(12)]
    before = copy.deepcopy(model.state_dict())
    made = erasure.unlearn(model, "Finetuning", forget=rows[:4], retain=rows[4:])
    assert not torch.equal(weights(made), weights(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ids, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]])
    assert made(ids, mask).shape == (1, 2)
    assert not any(module._forward_pre_hooks for module in (*made.modules(), *model.modules()))


def test_double_precision_is_taken_in_the_models_own_type():
    model, x, y = nn.Linear(3, 2), np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    made = erasure.unlearn(model, "Finetuning", forget=(x[:4], y[:4]), retain=(x[4:], y[4:]))
    single = x.astype(np.float32)
    same = erasure.unlearn(model, "Finetuning", forget=(single[:4], y[:4]), retain=(single[4:], y[4:]))
    assert torch.equal(weights(made), weights(same))


def test_texts_must_name_every_output_of_the_model():
    model, x = nn.Linear(3, 3), torch.zeros(4, 3)
    few, many = np.array(["a", "b", "a", "b"]), np.array(["a", "b", "c", "d"])
    with pytest.raises(DataError, match="nobody knows which is which"):
        erasure.unlearn(model, "Finetuning", forget=(x, few), retain=(x, few))
    with pytest.raises(DataError, match='the model cannot have "d"'):
        erasure.unlearn(model, "Finetuning", forget=(x, few), retain=(x, many))


def test_a_model_of_another_library_gets_a_sentence():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(RequirementNotMet, match=r"LogisticRegression.*torch\.nn\.Module"):
        erasure.unlearn(LogisticRegression(), forget=None)
    for given, remedy in (
        (nn.Linear(2, 2).state_dict(), "load_state_dict"),
        ("model.pt", "load the network first"),
        (nn.Linear, "give the object"),
    ):
        with pytest.raises(RequirementNotMet, match=remedy):
            erasure.unlearn(given, forget=None)


X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
PARTS = {"forget": (X[:6], Y[:6]), "retain": (X[6:], Y[6:])}


class Telling(nn.Module):
    """Gives its logits in the form that it is told, and keeps what it has computed."""

    def __init__(self, form):
        super().__init__()
        self.body, self.head, self.form, self.kept = nn.Linear(4, 5), nn.Linear(5, 3), form, {}

    def forward(self, x):
        features = self.body(x).relu()
        self.kept["features"], self.last = [features], features
        return self.form(self.head(features), features)


@pytest.mark.parametrize("form", [lambda logits, _: (logits,), lambda logits, _: [logits, None]])
def test_what_is_alone_in_a_tuple_is_the_logits(form):
    torch.manual_seed(0)
    model, plain = Telling(form), Telling(lambda logits, _: logits)
    plain.load_state_dict(model.state_dict())
    made, same = (erasure.unlearn(each, "Finetuning", **PARTS) for each in (model, plain))
    assert torch.equal(weights(made), weights(same)) and not torch.equal(weights(made), weights(model))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda logits, features: (logits, features, features), r"a tuple of 3: a tensor \(2, 3\), a tensor \(2, 5\)"),
        (lambda logits, _: {"out": logits}, "a mapping with the keys out"),
        (lambda logits, _: (logits, logits.sum()), "a single number for a batch"),
        (lambda logits, _: logits.sum(), "a single number for a batch"),
    ],
)
def test_outputs_whose_logits_cannot_be_told_are_described(form, said):
    with pytest.raises(RequirementNotMet, match=said):
        erasure.unlearn(Telling(form), "Finetuning", **PARTS)


@pytest.mark.parametrize("n_outputs", [2, 3])
@pytest.mark.parametrize(
    "form", [lambda out: out[0], lambda out: out.mean(0), lambda out: out.T, lambda out: out.flatten(), lambda out: out.squeeze()]
)
def test_outputs_that_do_not_follow_the_samples_are_refused_whatever_two_samples_look_like(form, n_outputs):
    model = Telling(lambda logits, _: form(logits[:, :n_outputs]))
    with pytest.raises(RequirementNotMet, match=r"for one, expected one row of logits for each sample; look for"):
        erasure.unlearn(model, "Finetuning", forget=(X[:3], Y[:3] % 2), retain=(X[3:], Y[3:] % 2))


class Odd(nn.Module):
    """A network with something in it, and a form of its output."""

    def __init__(self, form=lambda out: out, inside=None):
        super().__init__()
        self.layer, self.form, self.inside = nn.Linear(4, 3), form, inside

    def forward(self, x):
        return self.form(self.layer(x))


@pytest.mark.parametrize(
    "form", [lambda out: out.detach(), lambda out: out.data, lambda out: torch.from_numpy(out.detach().numpy())]
)
def test_outputs_without_a_gradient_are_refused_before_any_work(form):
    with pytest.raises(RequirementNotMet, match="outputs have no gradient, so that nothing can be trained"):
        erasure.unlearn(Odd(form), "Finetuning", **PARTS)


@pytest.mark.parametrize("inside", [threading.Lock(), (each for each in range(3))])
def test_a_network_that_cannot_be_copied_is_told(inside):
    with pytest.raises(RequirementNotMet, match="Odd cannot be copied, and methods change a copy: cannot pickle"):
        erasure.unlearn(Odd(inside=inside), "Finetuning", **PARTS)


def test_layers_that_torch_does_not_vectorise_are_no_reason_for_a_warning():
    model = nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 3))
    ids = torch.arange(24 * 3).reshape(24, 3) % 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlearningWarning)
        erasure.unlearn(model, "SSD", forget=(ids[:6], Y[:6]), retain=(ids[6:], Y[6:]), selection_weighting=0.5)


def test_texts_of_several_lengths_are_to_be_padded():
    rows = [{"input_ids": [1] * (2 + i % 3), "label": i % 2} for i in range(6)]
    with pytest.raises(DataError, match="all samples must be alike; pad them to one length"):
        erasure.unlearn(WithMask(), "Finetuning", forget=rows, retain=rows)


def test_advice_about_whole_numbers_follows_an_error_about_numbers_alone():
    ids = torch.ones(24, 4, dtype=torch.int64)
    for layer, advised in ((nn.Linear(4, 3), True), (Odd(form=lambda out: {}[0]), False)):
        layer.layer = nn.Linear(4, 3) if advised else nn.Embedding(3, 3)
        with pytest.raises(DataError, match="the model does not take these samples") as caught:
            erasure.unlearn(layer, "Finetuning", forget=(ids[:6], Y[:6]), retain=(ids[6:], Y[6:]))
        assert ("give x.float()" in str(caught.value)) == advised


def test_an_error_shows_the_beginning_of_a_long_label():
    with pytest.raises(
        DataError, match=r"the label of sample 0 is \[0\.5, 0\.5, 0\.5, 0\.5, 0\.5, 0\.5, \.\.\.\], expected"
    ) as caught:
        erasure.unlearn(nn.Linear(4, 3), "Finetuning", forget=[(X[0], torch.full((500,), 0.5))], retain=PARTS["retain"])
    assert len(str(caught.value)) < 200


def test_a_single_output_may_lose_its_axes():
    for form in (lambda logits, _: logits[:, 0], lambda logits, _: logits[:, :1].squeeze()):
        made = erasure.unlearn(Telling(form), "NegGrad", forget=(X[:1], Y[:1] % 2), retain=(X[1:], Y[1:] % 2))
        assert made(X).shape == (len(X),)


def test_a_network_that_keeps_what_it_computed_is_copied():
    model = Telling(lambda logits, _: logits)
    model(X)
    made = erasure.unlearn(model, "Finetuning", **PARTS)
    assert not torch.equal(weights(made), weights(model))
    assert model.last.grad_fn is not None  # the given network is left as it was


@pytest.mark.parametrize(
    ("method", "settings"), [("SSD", {"selection_weighting": 0.5}), ("NegGrad", {}), ("Fisher", {"alpha": 1e-3})]
)
def test_pruned_weights_stay_pruned(method, settings):
    from torch.nn.utils import prune

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    prune.l1_unstructured(model[2], "weight", 0.5)
    before = model(X).detach()
    made = erasure.unlearn(model, method, **PARTS, **settings)
    assert not torch.equal(made(X), before) and torch.equal(model(X), before)
    assert torch.equal(made[2].weight == 0, model[2].weight == 0)


@pytest.mark.parametrize(
    ("method", "modality", "reason"), [("AMUN", None, "text"), ("AMUN", "table", "whole numbers"), ("GKT", None, "text")]
)
def test_whole_numbers_are_tokens_and_methods_that_move_or_make_inputs_refuse_them(method, modality, reason):
    model = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2)).eval()
    x, y = torch.arange(80).reshape(20, 4) % 9, torch.arange(20) % 2
    forget, retain = (x[y == 0], y[y == 0]), (x[y == 1], y[y == 1])
    with pytest.raises(RequirementNotMet, match=reason):
        erasure.unlearn(model, method, forget=forget, retain=retain, modality=modality)


@pytest.mark.parametrize("method", ["FCS", "DUCK", "AMUN", "KDE"])
def test_logits_without_a_second_dimension_are_those_of_one_output(method):
    class OneLogit(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze(-1)

    model = OneLogit(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).eval()
    x, y = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 2
    parts = {"forget": (x[:6], y[:6]), "retain": (x[6:18], y[6:18]), "validation": (x[18:], y[18:])}
    made = erasure.unlearn(model, method, **parts, batch_size=4, epochs=1)
    assert made(x).shape == (24,)
    assert not torch.equal(weights(made), weights(model))
