"""Networks of torchvision and timm: stems, heads, features, and the numbers of the libraries' own networks."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

if importlib.util.find_spec("torchvision") is None or importlib.util.find_spec("timm") is None:
    pytest.skip("torchvision and timm are not installed", allow_module_level=True)

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.models.timm_model import TimmModel
from erasure.models.torchvision_model import TorchVisionModel
from erasure.training.predictor import ModelInput, build_model
from erasure.training.torchvision_operators import torchvision
from erasure.unlearners.last_layers import split_layers

GRAY = ModelInput((1, 16, 16), 4, modality="image")
COLOUR = ModelInput((3, 32, 32), 4, modality="image")


def built(model, data=COLOUR, seed=0):
    return build_model(model, data, seed, torch.device("cpu")).eval()


def images(data=COLOUR, n=3):
    return torch.rand(n, *data.x_shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def timm():
    torchvision("models", "a test")
    return importlib.import_module("timm")


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "vit_b_32", "squeezenet1_1"])
def test_the_network_of_torchvision_gives_the_same_logits_before_its_head_is_taken_apart(name):
    models = torchvision("models", "a test")
    size = {"image_size": 32} if name.startswith("vit") else {}
    own = models.get_model(name, weights=None, num_classes=4, **size).eval()
    ours = built(TorchVisionModel(name=name))
    body, head = own.state_dict(), dict(ours.head.state_dict())
    for part in list(body):
        tail = part.rpartition(".")[2]
        if part not in ours.trunk.state_dict():
            head[tail] = body.pop(part).reshape(head[tail].shape)
    ours.trunk.load_state_dict(body)
    ours.head.load_state_dict(head)
    features, logits = ours(images())
    assert torch.equal(ours.head(features), logits)
    expected = own(images())
    found = logits
    if name == "squeezenet1_1":  # its pooling comes after the outputs' ReLU, ours without it
        whole = own.classifier[1](own.features(images()))
        expected = whole.mean((2, 3))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_the_network_of_timm_gives_the_same_logits_as_ours(name, timm):
    size = {"img_size": (32, 32)} if name.startswith("vit") else {}
    own = timm.create_model(name, num_classes=4, **size).eval()
    ours = built(TimmModel(name=name))
    body = own.state_dict()
    head = {part.rpartition(".")[2]: body.pop(part) for part in list(body) if part not in ours.trunk.state_dict()}
    ours.trunk.load_state_dict(body)
    ours.head.load_state_dict(head)
    features, logits = ours(images())
    assert torch.equal(ours.head(features), logits)
    assert torch.allclose(logits, own(images()), atol=1e-5)


def test_a_network_of_timm_with_two_output_layers_gets_one():
    model = built(TimmModel(name="deit_tiny_distilled_patch16_224"))
    assert model.head.weight.shape == (4, 192)
    assert model(images())[1].shape == (3, 4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_small_stem_keeps_the_size_of_the_image(name):
    seen = []
    for stem in ("small", "imagenet"):
        model = built(TorchVisionModel(name=name, stem=stem), GRAY)
        model.trunk.layer1.register_forward_hook(
            lambda module, inputs, output: seen.append((inputs[0].shape[1:], output.shape[2:]))
        )
        model(images(GRAY))
    assert seen == [((64, 16, 16), (16, 16)), ((64, 4, 4), (4, 4))]


def test_a_hidden_layer_gives_the_features():
    model = built(TorchVisionModel(stem="small", hidden=24, dropout=0.5), GRAY)
    features, logits = model(images(GRAY))
    assert features.shape == (3, 24)
    assert features.min() >= 0
    assert torch.equal(model.head(features), logits)
    model.train()
    assert not torch.equal(model(images(GRAY))[0], model(images(GRAY))[0])


@pytest.mark.parametrize(
    "model", [TorchVisionModel(hidden=8), TimmModel(name="resnet18", dropout=0.1)], ids=["torchvision", "timm"]
)
def test_a_seed_gives_the_weights_and_copies_share_nothing(model):
    first, again, other = built(model), built(model), built(model, seed=1)
    states = [each.state_dict() for each in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    copied = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert torch.equal(first(images())[1], again(images())[1])
    copied.train()
    copied(images())
    assert not any(module.training for module in first.modules())


def test_the_last_layers_are_the_hidden_layer_and_the_outputs():
    model = built(TorchVisionModel(stem="small", hidden=8), GRAY)
    _, trained = split_layers(model, 2)
    assert [type(module) for module in trained] == [nn.Linear, nn.Linear]
    assert [module.out_features for module in trained] == [8, 4]
    frozen, trained = split_layers(built(TimmModel(name="resnet18")), 2)
    assert [type(module) for module in trained] == [nn.Conv2d, nn.BatchNorm2d, nn.Linear]
    assert len(frozen) == 38


def test_outputs_follow_the_task():
    binary = ModelInput((3, 32, 32), 2, task="binary", modality="image")
    assert built(TorchVisionModel(), binary)(images())[1].shape == (3, 1)
    assert built(TorchVisionModel(n_classes=7))(images())[1].shape == (3, 7)
    with pytest.raises(RequirementNotMet, match="made for 3 classes"):
        built(TorchVisionModel(n_classes=3))


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (TorchVisionModel(name="resnt18"), COLOUR, 'did you mean "resnet18"'),
        (TorchVisionModel(name="vgg11", stem="small"), COLOUR, "small.* is for ResNets; vgg11"),
        (TorchVisionModel(), ModelInput((7,), 3), r"takes images .* shape \(7,\)"),
        (
            TorchVisionModel(name="vit_b_16"),
            ModelInput((3, 20, 20), 3, modality="image"),
            "vit_b_16 cannot be made for images of 20x20",
        ),
        (TimmModel(name="resnt18"), COLOUR, 'did you mean "resnet18"'),
        (TimmModel(name="resnet18"), ModelInput((7,), 3), r"takes images .* shape \(7,\)"),
    ],
)
def test_what_does_not_fit_is_refused(model, data, message):
    with pytest.raises(RequirementNotMet, match=message):
        built(model, data)


def test_nothing_is_downloaded():
    with pytest.raises(InvalidParameters, match="would be downloaded"):
        TimmModel(name="hf-hub:timm/resnet18.a1_in1k")
    with pytest.raises(InvalidParameters, match="weights are never downloaded"):
        TorchVisionModel(weights="IMAGENET1K_V1")
