"""Weights from files: forms and prefixes, heads and stems that differ, and what is refused."""

import importlib.util
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from erasure.component import canonical
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.models.pretrained import load_weights
from erasure.models.timm_model import TimmModel
from erasure.models.torchvision_model import TorchVisionModel
from erasure.training.predictor import ModelInput
from erasure.training.torchvision_operators import torchvision
from erasure.training.weights_files import read_weights

HAS_VISION = all(importlib.util.find_spec(name) is not None for name in ("timm", "torchvision"))

DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


class Small(nn.Module):
    def __init__(self, n_channels=3, n_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(n_channels, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, n_classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def network(seed, **shape):
    torch.manual_seed(seed)
    return Small(**shape)


def same(found, expected, names=None):
    return all(torch.equal(found.state_dict()[name], expected.state_dict()[name]) for name in names or expected.state_dict())


BODY = ("conv.weight", "conv.bias", "norm.weight", "norm.running_mean")


@pytest.mark.parametrize("form", ["torch", "safetensors", "checkpoint", "parallel", "nested", "old"])
def test_every_form_of_file_gives_the_same_network(tmp_path, form):
    given = network(1)
    state = given.state_dict()
    path = str(tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth"))
    if form == "safetensors":
        save_file(state, path)
    elif form == "checkpoint":
        torch.save({"state_dict": state, "epoch": 3, "best": 0.5}, path)
    elif form == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif form == "nested":
        torch.save({"model": {f"_orig_mod.module.{name}": value for name, value in state.items()}}, path)
    elif form == "old":
        torch.save(
            {name: value for name, value in state.items() if "num_batches" not in name},
            path,
            _use_new_zipfile_serialization=False,
        )
    else:
        torch.save(state, path)
    own = network(2)
    assert not same(own, given, BODY)
    assert load_weights(own, path, head="fc", stem="conv") == ()
    assert same(own, given)


@pytest.mark.parametrize(
    ("prefixes", "others"),
    [
        ({"": "model."}, {"criterion.weight": (2,)}),
        ({"": "ema."}, {"online.step": (1,)}),
        ({"": ""}, {"normalize.mean": (3,), "normalize.std": (3,)}),
        ({"": "backbone.", "fc.": "fc."}, {"criterion.weight": (2,)}),
    ],
    ids=["loss", "average", "normalisation", "backbone"],
)
def test_what_a_checkpoint_holds_beside_the_network_is_named_and_left_out(tmp_path, prefixes, others):
    trained, fresh = network(1), network(2)
    found = {}
    for name, value in trained.state_dict().items():
        start = max((each for each in prefixes if name.startswith(each)), key=len)
        found[prefixes[start] + name.removeprefix(start)] = value
    torch.save({"state_dict": found | {name: torch.ones(shape) for name, shape in others.items()}}, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=f"also holds {', '.join(others)}, which the network does not have"):
        load_weights(fresh, str(tmp_path / "w.pt"), head="fc")
    assert same(fresh, trained)


@pytest.mark.parametrize("missing", [True, False])
def test_a_head_for_other_classes_keeps_its_fresh_weights(tmp_path, missing):
    given, own, fresh = network(1, n_classes=9), network(2), network(2)
    state = {name: value for name, value in given.state_dict().items() if not (missing and name.startswith("fc."))}
    torch.save(state, tmp_path / "weights.pth")
    assert load_weights(own, str(tmp_path / "weights.pth"), head="fc", stem="conv") == ("fc.weight", "fc.bias")
    assert same(own, given, BODY)
    assert same(own, fresh, ("fc.weight", "fc.bias"))


def test_half_a_head_is_told_of(tmp_path):
    given, fresh, own = network(1), network(2), network(2)
    torch.save({name: value for name, value in given.state_dict().items() if name != "fc.bias"}, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=r"lacks fc\.bias: the output layer keeps its fresh weights"):
        load_weights(own, str(tmp_path / "w.pt"), head="fc")
    assert same(own, fresh, ("fc.weight", "fc.bias"))
    assert same(own, given, BODY)


def test_a_stem_for_one_channel_is_the_sum_over_channels(tmp_path):
    given, own = network(1).eval(), network(2, n_channels=1).eval()
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    load_weights(own, str(tmp_path / "weights.pth"), head="fc", stem="conv")
    gray = torch.rand(2, 1, 6, 6)
    assert torch.allclose(own(gray), given(gray.expand(2, 3, 6, 6)), atol=1e-6)


def test_all_that_does_not_fit_is_told_at_once_and_nothing_is_changed(tmp_path):
    own, before = network(2), network(2)
    state = network(1).state_dict()
    state["bias"] = state.pop("conv.bias")
    state["norm.weight"] = torch.ones(6)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(RequirementNotMet) as refused:
        load_weights(own, str(tmp_path / "weights.pth"), head="fc")
    message = str(refused.value)
    assert "1 missing (conv.bias)" in message
    assert "1 left over (bias)" in message
    assert "1 of another shape (norm.weight is (6,), expected (5,))" in message
    assert same(own, before)


def test_a_pickled_network_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "network.pth"
    torch.save(network(1), path)
    with pytest.raises(DataError, match=r"could run any program.*save_file"):
        read_weights(str(path))
    path.write_bytes(pickle.dumps({"conv": Path("x")}))
    with pytest.raises(DataError, match="could run any program"):
        read_weights(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.pth", b"\x00" * 40, "cannot be read|could run"),
        ("weights.pth", b"", "cannot be read"),
        ("weights.safetensors", b"\x08", "not a complete safetensors"),
    ],
)
def test_damaged_files_are_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_weights(str(tmp_path / name))


def test_what_holds_no_named_tensors_is_told(tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save({"epoch": 3, "lr": 0.1}, path)
    with pytest.raises(DataError, match="a dict of epoch, lr, expected named tensors"):
        read_weights(path)
    torch.save(torch.ones(3), path)
    with pytest.raises(DataError, match="holds Tensor, expected named tensors"):
        read_weights(path)
    with pytest.raises(DataError, match=r'did you mean "weights\.pth"'):
        read_weights(str(tmp_path / "weigths.pth"))


def test_a_published_checkpoint_is_read():
    file = DATA / "models" / "resnet20-12fca82f.th"
    if not file.exists():
        pytest.skip("the ResNet-20 of the test data is not there (ERASURE_TEST_DATA)")
    weights = read_weights(str(file))
    assert weights["module.conv1.weight"].shape == (16, 3, 3, 3)
    assert weights["module.linear.weight"].shape == (10, 64)


def test_other_content_under_the_same_path_is_another_component(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network(1).state_dict(), path)
    first = TorchVisionModel(weights=str(path))
    assert canonical(first) == canonical(TorchVisionModel(weights=str(path), weights_sha256=first.weights_sha256))
    torch.save(network(2).state_dict(), path)
    assert canonical(first) != canonical(TorchVisionModel(weights=str(path)))
    with pytest.raises(InvalidParameters, match=r"(?s)TorchVisionModel.weights: expected .*the file has changed"):
        first.replace(hidden=3)


@pytest.mark.skipif(not HAS_VISION, reason="torchvision and timm are not installed")
@pytest.mark.parametrize("family", ["torchvision", "timm"])
@pytest.mark.parametrize("n_classes", [4, 6])
def test_a_family_starts_from_the_weights_of_its_library(tmp_path, family, n_classes):
    models = torchvision("models", "a test")
    timm = importlib.import_module("timm")
    own = (models.resnet18(num_classes=4) if family == "torchvision" else timm.create_model("resnet18", num_classes=4)).eval()
    save_file(own.state_dict(), tmp_path / "weights.safetensors")
    cls = {"torchvision": TorchVisionModel, "timm": TimmModel}[family]
    component = cls(name="resnet18", weights=str(tmp_path / "weights.safetensors"))
    x = torch.rand(2, 3, 32, 32)
    model = component.build(ModelInput((3, 32, 32), n_classes, modality="image")).eval()
    features, logits = model(x)
    assert logits.shape == (2, n_classes)
    own.fc = own.fc if n_classes == 4 else nn.Identity()
    assert torch.allclose(logits if n_classes == 4 else features, own(x), atol=1e-5)
    gray = component.build(ModelInput((1, 32, 32), n_classes, modality="image")).eval()
    repeated = x[:, :1].expand(-1, 3, -1, -1)
    assert torch.allclose(gray(x[:, :1])[0 if n_classes == 6 else 1], own(repeated), atol=1e-5)
    with pytest.raises(RequirementNotMet, match=r"conv1.weight is \(64, 3, 7, 7\), expected \(64, 3, 3, 3\)"):
        TorchVisionModel(stem="small", weights=component.weights).build(ModelInput((3, 32, 32), 4, modality="image"))


@pytest.mark.skipif(not HAS_VISION, reason="needs timm and torchvision")
@pytest.mark.parametrize("hidden", [None, 6])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_network_that_was_kept_whole_is_read_whole(tmp_path, hidden, prefix):
    data, path = ModelInput((3, 32, 32), 3), str(tmp_path / "kept.pt")
    for made in (TimmModel(name="test_efficientnet", hidden=hidden), TorchVisionModel(name="mobilenet_v3_small", hidden=hidden)):
        torch.manual_seed(1)
        kept = made.build(data)
        torch.save({f"{prefix}{name}": value for name, value in kept.state_dict().items()}, path)
        torch.manual_seed(2)
        assert same(made.replace(weights=path).build(data), kept)
