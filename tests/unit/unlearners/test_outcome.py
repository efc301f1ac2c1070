"""What erasure.unlearn tells of a model that comes back."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import erasure
from erasure.errors import UnlearningWarning
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.identity import Identity
from erasure.unlearners.outcome import Outcome, compared
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening


class Net(nn.Module):
    """A class of one's own, with BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def trained():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 4, generator=generator)
    y = x[:, :3].argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x[:180]), y[:180]).backward()
            optimizer.step()
    return model, {"forget": (x[:20], y[:20]), "retain": (x[20:180], y[20:180]), "test": (x[180:], y[180:])}


def told(model, method, *, without=(), **arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = erasure.unlearn(model, method, **{name: each for name, each in arguments.items() if name not in without})
    return found, [str(each.message) for each in caught if issubclass(each.category, UnlearningWarning)]


def test_a_deletion_that_changed_nothing_says_so_and_what_to_try(trained):
    model, parts = trained
    same, (said,) = told(model, "SSD", selection_weighting=1e6, **parts)
    assert same.unlearning.changed == 0.0
    assert "SSD changed no weight" in said or "SelectiveSynapticDampening changed no weight" in said
    assert "nothing has been forgotten" in said and "Try a smaller selection_weighting (now 1e+06)" in said
    assert same.unlearning.remarks == (said,)
    with pytest.raises(UnlearningWarning, match="changed no weight"), warnings.catch_warnings():
        warnings.simplefilter("error", UnlearningWarning)
        erasure.unlearn(model, "SSD", selection_weighting=1e6, **parts)


def test_an_adaptive_selection_that_changed_nothing_says_what_to_try(trained):
    method = SelectiveSynapticDampening(selection_weighting="adaptive")
    changed, hint = compared(method, trained[0], copy.deepcopy(trained[0]))
    assert changed == 0
    assert "Try a number for selection_weighting (now adaptive)" in hint


def test_a_model_without_trainable_weights_is_told_apart(trained):
    model, parts = trained
    frozen = copy.deepcopy(model).requires_grad_(False)
    _, said = told(frozen, "SSD", **parts)
    assert any("no weight of the model is trainable" in each for each in said)


@pytest.mark.parametrize(
    "method",
    [
        "Identity",
        Finetuning(epochs=0),
        Cascade(steps=(Identity(),)),
    ],
)
def test_what_is_meant_to_change_nothing_is_silent(trained, method):
    model, parts = trained
    found, said = told(model, method, **parts)
    assert (found.unlearning.changed, said) == (0.0, [])
    assert found.unlearning.before == found.unlearning.after


def test_accuracies_are_those_of_the_two_models(trained):
    model, parts = trained
    found, _ = told(model, "Finetuning", epochs=1, **parts)
    for which, net in (("before", model), ("after", found)):
        accuracies = getattr(found.unlearning, which)
        assert list(accuracies) == ["forget", "retain", "test"]
        net.eval()
        for name, (x, y) in parts.items():
            assert accuracies[name] == pytest.approx(float((net(x).argmax(1) == y).float().mean()))
    assert found.unlearning.sizes == {"forget": 20, "retain": 160, "test": 60}
    only, _ = told(model, "Finetuning", epochs=1, without=("test",), **parts)
    assert list(only.unlearning.after) == ["forget", "retain"]


def test_test_samples_change_nothing(trained):
    model, parts = trained
    found, _ = told(model, "SCRUB", epochs=1, **parts)
    without, _ = told(model, "SCRUB", epochs=1, without=("test",), **parts)
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), without.state_dict().values(), strict=True))


def test_a_ruined_model_does_not_come_back_without_a_word(trained):
    model, parts = trained
    found, said = told(model, "NegGrad", epochs=20, optimizer={"class": "SGD", "parameters": {"lr": 0.5}}, **parts)
    assert found.unlearning.after["retain"] < 0.8
    assert any(each.startswith("accuracy on retain fell from") for each in said)
    assert any(each.startswith("accuracy on test fell from") for each in said)


def test_retain_that_still_holds_forgotten_samples_is_said(trained):
    model, parts = trained
    x, y = (torch.cat([parts["retain"][i], parts["forget"][i][:7]]) for i in (0, 1))
    _, said = told(model, "Finetuning", epochs=1, **{**parts, "retain": (x, y)})
    assert any("7 of the samples to forget are in retain as well" in each for each in said)
    other = (parts["forget"][0][:7], (parts["forget"][1][:7] + 1) % 3)  # the same inputs with other labels are other samples
    x, y = (torch.cat([parts["retain"][i], other[i]]) for i in (0, 1))
    assert not any("as well" in each for each in told(model, "Finetuning", epochs=1, **{**parts, "retain": (x, y)})[1])


def test_the_result_is_the_model(trained):
    model, parts = trained
    found, _ = told(model, "Finetuning", epochs=1, **parts)
    assert type(found) is Net
    assert isinstance(found.unlearning, Outcome)
    assert list(found.state_dict()) == list(model.state_dict())
    assert [name for name, _ in found.named_modules()] == [name for name, _ in model.named_modules()]
    assert not hasattr(model, "unlearning")
    assert copy.deepcopy(found).unlearning == found.unlearning
    buffer = io.BytesIO()
    torch.save(found.state_dict(), buffer)
    buffer.seek(0)
    fresh = Net()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    x, _ = parts["test"]
    assert torch.equal(fresh.eval()(x), found(x))
    compiled = torch.compile(found, backend="eager")
    assert torch.allclose(compiled(x), found(x))
    again, _ = told(found, "Finetuning", epochs=1, **parts)
    assert again.unlearning.before == pytest.approx(found.unlearning.after)


def test_verbose_prints_what_unlearning_tells(trained, capsys):
    model, parts = trained
    found, _ = told(model, "Finetuning", epochs=1, verbose=True, **parts)
    shown = capsys.readouterr().out
    assert shown == f"{found.unlearning}\n"
    assert "accuracy on test (60 samples):" in shown
    told(model, "Finetuning", epochs=1, **parts)
    assert not capsys.readouterr().out


def test_global_random_numbers_are_the_callers(trained):
    model, parts = trained

    class Drawing(Net):
        def forward(self, x):
            return super().forward(x) + 1e-3 * torch.rand(1)

    drawing = Drawing()
    drawing.load_state_dict(model.state_dict())
    before = torch.get_rng_state()
    told(drawing, "Finetuning", epochs=1, **parts)
    assert torch.equal(torch.get_rng_state(), before)
