"""Networks for token matrices: padding, features, the numbers of transformers, LoRA, and what is refused."""

import copy
import importlib.util
import itertools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.models.text import SmallTransformer, TextEncoder
from erasure.testing.problems import problem
from erasure.training.batches import Batch
from erasure.training.per_sample import per_sample_gradients, squared_gradients
from erasure.training.predictor import ModelInput, build_model
from erasure.training.torchvision_operators import torchvision
from erasure.unlearners.identity import Identity
from erasure.unlearners.last_layers import LastLayers, split_layers

LENGTH = 12
TEXT = ModelInput((LENGTH,), 3, modality="text")
PADDING = {"roberta": 1}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "bert": SIZES,
    "roberta": SIZES | {"pad_token_id": 1},
    "electra": SIZES | {"embedding_size": 8},
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
}

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or importlib.util.find_spec("peft") is None,
    reason="transformers and peft are not installed",
)


@pytest.fixture(scope="module")
def transformers():
    if importlib.util.find_spec("torchvision") is not None:
        torchvision("transforms", "a test")
    return importlib.import_module("transformers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, transformers):
    """Small encoders with random weights, as a user has them after a download."""
    made = {}
    for name, sizes in CONFIGS.items():
        settings = {"vocab_size": 50, "max_position_embeddings": 32} | sizes
        torch.manual_seed(5)
        encoder = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **settings))
        folder = tmp_path_factory.mktemp(name)
        encoder.save_pretrained(folder)
        made[name] = (str(folder), encoder.eval())
    return made


def tokens(padding_id=0, n=4):
    ids = torch.randint(2, 50, (n, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[0, 5:] = padding_id
    return ids


def padded(ids, n, padding_id=0):
    return torch.cat([ids, torch.full((len(ids), n), padding_id)], 1)


def built(model, data=TEXT, seed=0):
    return build_model(model, data, seed, torch.device("cpu")).eval()


def small(**parameters):
    return SmallTransformer(**({"n_tokens": 50, "width": 16, "n_heads": 2} | parameters))


def perturbed(model):
    """The same network away from its initial weights, where biases and updates are not 0."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_padding_makes_no_difference_to_the_small_transformer():
    short, long = tokens()[:, :LENGTH], padded(tokens(), 6)
    model = perturbed(built(small(), ModelInput((LENGTH + 6,), 3, modality="text")))
    assert torch.allclose(model(short)[1], model(long)[1], atol=1e-5)
    moved = tokens()
    moved[0, 5:] = 7
    assert not torch.allclose(model(moved)[1][0], model(short)[1][0], atol=1e-3)
    assert torch.equal(model(moved)[1][1:], model(short)[1][1:])


def test_a_row_of_padding_has_finite_logits_and_gradients():
    model = built(small()).train()
    logits = model(torch.zeros(2, LENGTH, dtype=torch.long))[1]
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_layer_of_the_small_transformer_gives_the_numbers_of_torch():
    model = perturbed(built(small(n_layers=1)))
    layer, reference = (
        model.trunk.layers[0],
        nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True),
    )
    with torch.no_grad():
        for own, of_torch in (
            (layer.queries_keys_values, (reference.self_attn.in_proj_weight, reference.self_attn.in_proj_bias)),
            (layer.mixed, (reference.self_attn.out_proj.weight, reference.self_attn.out_proj.bias)),
            (layer.mlp[0], (reference.linear1.weight, reference.linear1.bias)),
            (layer.mlp[2], (reference.linear2.weight, reference.linear2.bias)),
            (layer.norm_attention, (reference.norm1.weight, reference.norm1.bias)),
            (layer.norm_mlp, (reference.norm2.weight, reference.norm2.bias)),
        ):
            of_torch[0].copy_(own.weight)
            of_torch[1].copy_(own.bias)
    ids = tokens()
    states = model.trunk.tokens(ids) + model.trunk.positions.weight
    expected = reference.train()(states, src_key_padding_mask=ids == 0)  # eval mode takes another path
    real = (ids != 0).unsqueeze(-1)
    expected = (model.trunk.norm(expected) * real).sum(1) / real.sum(1)
    assert torch.allclose(model(ids)[0], expected, atol=1e-5)


def test_dropout_is_off_in_eval_mode_and_copies_share_nothing():
    model = built(small(dropout=0.5))
    assert torch.equal(model(tokens())[1], model(tokens())[1])
    before = model(tokens())[1]
    copied = perturbed(copy.deepcopy(model)).train()
    assert not torch.equal(copied(tokens())[1], copied(tokens())[1])
    assert torch.equal(model(tokens())[1], before)


def test_unknown_tokens_and_odd_heads_are_told():
    with pytest.raises(RequirementNotMet, match=r"a token id is 49; n_tokens = 20"):
        built(small(n_tokens=20))(torch.full((1, LENGTH), 49))
    with pytest.raises(InvalidParameters, match="3 heads cannot share a width of 16"):
        small(n_heads=3)


@pytest.mark.parametrize("data", [ModelInput((5,), 3), ModelInput((1, 8, 8), 3, modality="image")])
@pytest.mark.parametrize("model", [small(), TextEncoder()], ids=["small", "encoder"])
def test_only_tokens_are_taken(model, data):
    with pytest.raises(RequirementNotMet, match=f"takes rows of token ids; the data is of the kind {data.modality}"):
        built(model, data)


@needs_transformers
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_encoder_gives_the_states_of_transformers(folders, name, pooling):
    folder, reference = folders[name]
    padding_id = PADDING.get(name, 0)
    ids = tokens(padding_id)
    mask = (ids != padding_id).long()
    states = reference(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = states[:, 0] if pooling == "first" else (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    model = built(TextEncoder(name_or_path=folder, hidden_sizes=(), pooling=pooling))
    features, logits = model(ids)
    assert torch.allclose(features, expected, atol=1e-5)
    assert torch.equal(model.head(features), logits)
    assert torch.allclose(model(padded(ids, 6, padding_id))[1], logits, atol=1e-5)


@needs_transformers
def test_ids_and_mask_one_above_the_other_are_taken(folders):
    folder, _ = folders["bert"]
    model = built(TextEncoder(name_or_path=folder), ModelInput((2, LENGTH), 3, modality="text"))
    ids = tokens()
    both = torch.stack([ids, (ids != 0).long()], 1)
    assert torch.equal(model(both)[1], model(ids)[1])
    both[1, 1, 6:] = 0
    assert not torch.equal(model(both)[1][1], model(ids)[1][1])


@needs_transformers
@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_of_an_encoder_is_used(folders, name):
    model = built(TextEncoder(name_or_path=folders[name][0], hidden_sizes=(8,))).train()
    features, logits = model(tokens(PADDING.get(name, 0)))
    assert (features.shape, logits.shape) == ((4, 8), (4, 3))
    logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@needs_transformers
def test_lora_trains_updates_and_head_and_starts_where_the_encoder_is(folders):
    folder, _ = folders["bert"]
    plain, adapted = (built(TextEncoder(name_or_path=folder, hidden_sizes=(), lora_rank=rank)) for rank in (None, 2))
    assert torch.allclose(plain(tokens())[0], adapted(tokens())[0], atol=1e-6)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    assert sum("lora_A" in name for name in trained) == sum("lora_B" in name for name in trained) == 12
    copied = perturbed(copy.deepcopy(adapted))
    assert {name for name, p in copied.named_parameters() if p.requires_grad} == trained
    assert torch.allclose(plain(tokens())[0], adapted(tokens())[0], atol=1e-6)
    state = copied.state_dict()
    again = built(TextEncoder(name_or_path=folder, hidden_sizes=(), lora_rank=2), seed=3)
    again.load_state_dict(state)
    assert torch.equal(again(tokens())[1], copied(tokens())[1])


@needs_transformers
def test_the_head_is_the_last_two_layers(folders):
    model = built(TextEncoder(name_or_path=folders["bert"][0], hidden_sizes=(8,)))
    assert [module.out_features for module in split_layers(model, 2)[1]] == [8, 3]


@needs_transformers
def test_layers_of_the_encoder_are_drawn_anew_unless_it_is_under_lora(folders):
    context = problem("text").context
    plain, adapted = (
        built(TextEncoder(name_or_path=folders["bert"][0], hidden_sizes=(8,), lora_rank=rank), context.model_input)
        for rank in (None, 2)
    )
    for model, n_layers in ((plain, 2), (plain, 4), (adapted, 2)):
        found = LastLayers(inner=Identity(), n_layers=n_layers, reset=True).unlearn(copy.deepcopy(model), context)
        before = model.state_dict()
        changed = {name.rpartition(".")[0] for name, value in found.state_dict().items() if not torch.equal(value, before[name])}
        assert {"head", "trunk.1"} <= changed
        assert any("layer.1.output.dense" in name for name in changed) == (n_layers == 4)
        assert not any("layer.0" in name for name in changed)
    with pytest.raises(RequirementNotMet, match="only the layers of the head can be reinitialised"):
        LastLayers(inner=Identity(), n_layers=3, reset=True).unlearn(copy.deepcopy(adapted), context)


@needs_transformers
@pytest.mark.parametrize("form", ["small", "encoder", "lora"])
def test_gradients_of_each_sample_are_those_taken_one_by_one(folders, form):
    encoder = TextEncoder(name_or_path=folders["bert"][0], hidden_sizes=(8,), lora_rank=2 if form == "lora" else None)
    model = perturbed(built(small() if form == "small" else encoder))
    y = torch.tensor([0, 1, 2, 0])

    def loss(logits, y):
        return nn.functional.cross_entropy(logits, y, reduction="none")

    together, alone = (per_sample_gradients(model, tokens(), y, loss, method=method) for method in ("vmap", "loop"))
    assert set(together) == set(alone) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(torch.allclose(together[name], alone[name], atol=1e-5) for name in alone)
    fast = squared_gradients(model, [Batch(tokens(), y, torch.arange(4))], loss)
    assert all(torch.allclose(fast[name].float(), (alone[name] ** 2).mean(0), rtol=1e-3, atol=1e-5) for name in alone)


@needs_transformers
def test_a_seed_gives_the_weights_of_the_head_and_of_an_encoder_that_is_not_pretrained(folders):
    folder, reference = folders["bert"]
    word = "trunk.0.encoder.embeddings.word_embeddings.weight"
    for pretrained in (True, False):
        component = TextEncoder(name_or_path=folder, pretrained=pretrained)
        first, again, other = (built(component, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["head.weight"], other["head.weight"])
        assert torch.equal(first[word], reference.embeddings.word_embeddings.weight) == pretrained
        assert torch.equal(first[word], other[word]) == pretrained


@needs_transformers
def test_what_cannot_be_loaded_is_told(folders, tmp_path):
    with pytest.raises(RequirementNotMet, match=r"cannot be loaded.*set download: true"):
        built(TextEncoder(name_or_path="nobody/no-such-encoder"))
    with pytest.raises(InvalidParameters, match=r"has no config.json and no weights"):
        TextEncoder(name_or_path=str(tmp_path))
    folder, encoder = folders["bert"]
    encoder.config.save_pretrained(tmp_path)
    with pytest.raises(RequirementNotMet, match="cannot be loaded"):
        built(TextEncoder(name_or_path=str(tmp_path)))
    with pytest.raises(RequirementNotMet, match="reads 32 tokens, the data has rows of 40"):
        built(TextEncoder(name_or_path=folder), ModelInput((40,), 3, modality="text"))
    with pytest.raises(InvalidParameters, match="lora_alpha needs lora_rank"):
        TextEncoder(lora_alpha=4)


@needs_transformers
def test_weights_with_gaps_are_refused_and_changed_ones_are_another_component(folders, tmp_path):
    folder, encoder = folders["bert"]
    encoder.save_pretrained(tmp_path)
    first = TextEncoder(name_or_path=str(tmp_path))
    assert first.weights_sha256 == TextEncoder(name_or_path=folder).weights_sha256
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidParameters, match="the file has changed"):
        first.replace(dropout=0.5)
    with pytest.raises(RequirementNotMet, match=r"lack 1 tensors .*encoder\.layer\.0\.output\.dense\.weight"):
        built(TextEncoder(name_or_path=str(tmp_path)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.3}))
    assert TextEncoder(name_or_path=str(tmp_path)).weights_sha256 != first.weights_sha256


def with_lengths(*lengths, padding_id=0, width=64):
    ids = torch.randint(2, 50, (len(lengths), width), generator=torch.Generator().manual_seed(3))
    return torch.where(torch.arange(width) < torch.tensor(lengths)[:, None], ids, padding_id)


def every_width(model, x):
    """Widths of what reaches the model's layers of attention, and the logits."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
    ]
    with torch.no_grad():
        logits = model(x)[1]
    for hook in hooks:
        hook.remove()
    return set(seen), logits


def at_full_length(model, x, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("erasure.models.text._longest", lambda real: real.shape[1])
        return every_width(model, x)


@pytest.mark.parametrize(("lengths", "width"), [((3, 9, 17), 24), ((1, 8), 8), ((0, 0), 8), ((64, 2), 64), ((60, 2), 64)])
def test_a_batch_is_cut_to_its_longest_text(lengths, width, monkeypatch):
    model = build_model(SmallTransformer(n_tokens=50, width=16), ModelInput((64,), 3, modality="text"), 0, torch.device("cpu"))
    x = with_lengths(*lengths)
    widths, logits = every_width(model.eval(), x)
    assert widths == {width}
    full, expected = at_full_length(model, x, monkeypatch)
    assert full == {64}
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@needs_transformers
@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("with_mask", [False, True])
def test_encoders_say_the_same_of_a_batch_that_is_cut(name, with_mask, folders, monkeypatch):
    padding_id = PADDING.get(name, 0)
    x = with_lengths(3, 9, 12, padding_id=padding_id, width=24)
    shape = (24,)
    if with_mask:
        x, shape = torch.stack([x, (x != padding_id).long()], dim=1), (2, 24)
    model = build_model(
        TextEncoder(name_or_path=folders[name][0], hidden_sizes=()), ModelInput(shape, 3, modality="text"), 0, torch.device("cpu")
    ).eval()
    widths, logits = every_width(model, x)
    assert widths == {16}
    full, expected = at_full_length(model, x, monkeypatch)
    assert full == {24}
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


DECODERS = {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "llama": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
}


@pytest.fixture(scope="module")
def decoders(tmp_path_factory, transformers):
    """Small models that read from left to right: GPT-2 counts positions from the left edge, Llama between tokens."""
    made = {}
    for name, sizes in DECODERS.items():
        torch.manual_seed(5)
        settings = transformers.AutoConfig.for_model(name, vocab_size=50, bos_token_id=1, eos_token_id=2, **sizes)
        model = transformers.AutoModel.from_config(settings)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        made[name] = (str(folder), model.eval())
    return made


@needs_transformers
@pytest.mark.parametrize("family", sorted(DECODERS))
def test_a_model_that_reads_from_left_to_right_gives_its_last_token(decoders, family):
    folder, decoder = decoders[family]
    x = tokens()
    with torch.no_grad():
        states = [decoder(input_ids=row[row != 0][None]).last_hidden_state[0, -1] for row in x]
    for pooling in (None, "last"):
        model = built(TextEncoder(name_or_path=folder, hidden_sizes=(), pooling=pooling)).eval()
        torch.testing.assert_close(model(x)[0], torch.stack(states), atol=1e-6, rtol=0)
    with pytest.raises(RequirementNotMet, match=r'reads from left to right.*pooling = "last" or "mean"'):
        built(TextEncoder(name_or_path=folder, pooling="first"))
    averaged = built(TextEncoder(name_or_path=folder, pooling="mean")).eval()
    changed = x.clone()
    changed[:, 2] = 7
    assert not torch.allclose(averaged(x)[0], averaged(changed)[0])


def to_the_left(x, padding_id):
    return torch.stack([torch.cat([row[row == padding_id], row[row != padding_id]]) for row in x])


@needs_transformers
@pytest.mark.parametrize(
    ("name", "with_mask"), [("small", False), *itertools.product([*sorted(CONFIGS), *sorted(DECODERS)], [False, True])]
)
def test_padding_on_the_left_gives_the_features_of_padding_on_the_right(name, with_mask, folders, decoders):
    padding_id = PADDING.get(name, 0)
    right = with_lengths(3, 9, 12, padding_id=padding_id, width=LENGTH)
    left = to_the_left(right, padding_id)
    assert not torch.equal(left, right)
    if name == "small":
        models = [SmallTransformer(n_tokens=50, width=16)]
    else:
        folder = {**folders, **decoders}[name][0]
        poolings = ("last", "mean") if name in DECODERS else ("first", "last", "mean")
        models = [TextEncoder(name_or_path=folder, hidden_sizes=(), pooling=pooling) for pooling in poolings]
    shape = (LENGTH,)
    if with_mask:
        right, left = (torch.stack([x, (x != padding_id).long()], dim=1) for x in (right, left))
        shape = (2, LENGTH)
    for each in models:
        model = build_model(each, ModelInput(shape, 3, modality="text"), 0, torch.device("cpu")).eval()
        torch.testing.assert_close(model(left)[0], model(right)[0], atol=1e-6, rtol=0)
