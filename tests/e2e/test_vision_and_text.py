"""Experiments with the networks of torchvision, timm and Hugging Face, and with the small Transformer, through the public door."""

import importlib.util

import pytest
import torch
from safetensors.torch import save_file

import erasure
from erasure.errors import ConfigError
from erasure.training.torchvision_operators import torchvision

needs_vision = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("timm", "torchvision")),
    reason="torchvision and timm are not installed",
)
needs_text = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "transformers")),
    reason="transformers and peft are not installed",
)
METHODS = ("Finetuning", "SCRUB", "SSD", "SalUn", "CF-k", "EU-k")
MODELS = "erasure.models"


def node(name, /, **parameters):
    return {"class": name, "parameters": parameters}


def experiment(source, model, *, epochs, lr, **changes):
    configuration = {
        "name": "networks",
        "data": {
            "data_source": source,
            "batch_size": 16,
            "partitions": [
                node("StratifiedPercentage", parts_names=["train", "test"], percentage=0.7),
                node("Percentage", parts_names=["forget", "retain"], ref_data="train", percentage=0.1),
            ],
        },
        "predictor": {"model": model, "epochs": epochs, "optimizer": node("Adam", lr=lr)},
        "unlearners": [
            "GoldModel",
            node("Finetuning", epochs=1),
            node("SCRUB", epochs=1),
            "SSD",
            node("SalUn", epochs=1),
            node("CF-k", k=2, epochs=1),
            node("EU-k", k=2, epochs=1),
            "Identity",
        ],
        "evaluator": {
            "measures": [node("Accuracy", partition=name) for name in ("forget", "retain", "test")],
            "floor_repeats": 0,  # no row is compared with it here
        },
        "globals": {"seed": 0},
    }
    return configuration | changes


def images(n_samples=120):
    return node("SyntheticImages", n_samples=n_samples, image_size=16, n_classes=3, separation=3.0)


@pytest.fixture
def texts(tmp_path):
    """Rows of 4 to 10 tokens, of which one or two tell the class."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(150) % 3
    x = torch.randint(4, 40, (150, 10), generator=draw)
    lengths = torch.randint(4, 11, (150,), generator=draw)
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 0
        x[i, torch.randint(0, length, (1 + i % 2,), generator=draw)] = 1 + y[i]
    save_file({"x": x, "y": y}, tmp_path / "texts.safetensors")
    return node("TensorFile", path=str(tmp_path / "texts.safetensors"))


@pytest.fixture
def bert(tmp_path):
    """A folder with a small BERT."""
    if importlib.util.find_spec("torchvision") is not None:
        torchvision("transforms", "a test")
    transformers = importlib.import_module("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, **sizes)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def run(configuration, store):
    results = erasure.run(configuration, store=store, device="cpu")
    assert not results.failures
    return results


def accuracies(results, partition):
    return {row.label: row.value for row in results.rows if (row.measure, row.partition) == ("accuracy", partition)}


def assert_learned_and_unlearned(results):
    """What one training reaches on unseen samples is a matter of the processor; that it learned, seen samples tell."""
    test, forget, retain = (accuracies(results, name) for name in ("test", "forget", "retain"))
    assert {"original", "gold", "Identity", *METHODS} <= set(test)
    assert min(retain["original"], retain["gold"]) > 0.5  # of three classes
    assert (test["Identity"], forget["Identity"]) == (test["original"], forget["original"])


@needs_vision
def test_a_network_of_timm(tmp_path):
    model = node(f"{MODELS}.timm_model.TimmModel", name="test_resnet", hidden=32)
    assert_learned_and_unlearned(run(experiment(images(), model, epochs=10, lr=0.003), tmp_path / "store"))


@needs_vision
@pytest.mark.nightly  # by day the one of timm has a hidden layer, and test_vision_models.py takes those of torchvision apart
def test_a_network_of_torchvision_with_a_hidden_layer(tmp_path):
    model = node(f"{MODELS}.torchvision_model.TorchVisionModel", name="shufflenet_v2_x0_5", hidden=32)
    results = run(experiment(images(), model, epochs=25, lr=0.003), tmp_path / "store")
    assert_learned_and_unlearned(results)


@needs_vision
@pytest.mark.nightly  # eleven million weights say what the smaller residual network of timm and the one of torchvision do
def test_a_resnet_18(tmp_path):
    model = node(f"{MODELS}.torchvision_model.TorchVisionModel", name="resnet18", hidden=32)
    results = run(experiment(images(100), model, epochs=12, lr=0.001), tmp_path / "store")
    assert_learned_and_unlearned(results)


@needs_vision
def test_other_weights_in_the_same_file_are_trained_anew(tmp_path):
    torchvision("models", "a test")
    timm = importlib.import_module("timm")
    path = tmp_path / "weights.safetensors"
    model = node(f"{MODELS}.timm_model.TimmModel", name="test_resnet", weights=str(path))
    configuration = experiment(images(60), model, epochs=1, lr=1e-6, unlearners=["GoldModel", "Identity"])
    rows = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = timm.create_model("test_resnet", num_classes=3)
        torch.nn.init.normal_(network.fc.weight)
        with torch.no_grad():
            network.fc.bias.copy_(torch.eye(3)[seed] * 50)
        save_file(network.state_dict(), path)
        rows.append(accuracies(run(configuration, tmp_path / "store"), "retain"))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


@needs_vision
def test_a_missing_file_of_weights_is_told_where_it_is_named(tmp_path):
    model = node(f"{MODELS}.timm_model.TimmModel", name="test_resnet", weights=str(tmp_path / "none.pth"))
    with pytest.raises(ConfigError, match=r"predictor\.(parameters\.)?model.*there is no file"):
        erasure.run(experiment(images(60), model, epochs=1, lr=0.1), store=tmp_path / "store", device="cpu")


def test_the_small_transformer(tmp_path, texts):
    model = node(f"{MODELS}.text.SmallTransformer", n_tokens=40, width=16, n_layers=1, dropout=0.1)
    assert_learned_and_unlearned(run(experiment(texts, model, epochs=20, lr=0.01), tmp_path / "store"))


@needs_text
@pytest.mark.parametrize("adapted", [{}, {"lora_rank": 4}], ids=["whole", "lora"])
def test_an_encoder_from_a_folder(tmp_path, texts, bert, adapted):
    model = node(f"{MODELS}.text.TextEncoder", name_or_path=bert, hidden_sizes=[16], dropout=0.1, **adapted)
    assert_learned_and_unlearned(run(experiment(texts, model, epochs=20, lr=0.01), tmp_path / "store"))
