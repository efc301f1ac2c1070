"""Language models and their tokenizers from a folder, with and without low-rank updates."""

import copy
import json
import re
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llama import EXCHANGES, TEMPLATE, data, llama, model_input, task

import erasure
from erasure.data.language.exchanges import dataset_of, require_template, texts_of
from erasure.data.language.vocabularies import BytePairs, PretrainedVocabulary
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.functional.tokens import END
from erasure.measures.attacks.prompt_attack import PromptAttack
from erasure.measures.generated_answers import ModelUtility
from erasure.measures.multiple_choice import MultipleChoice
from erasure.measures.open_unlearning import OpenUnlearningScore
from erasure.measures.truth_ratio import ForgetQuality, TruthRatio
from erasure.models.language import CausalLanguageModel, SmallLlama
from erasure.models.text import library
from erasure.training.calls import Optimizer
from erasure.training.predictor import build_model
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.refusal import IDK, IdkDPO

CPU = torch.device("cpu")
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Llama and its tokenizer, as Hugging Face saves them."""
    path = tmp_path_factory.mktemp("llama")
    learned = BytePairs(vocabulary_size=300).encoder(texts_of(EXCHANGES, TEMPLATE)).tokenizer
    fast = library("transformers", "a test").PreTrainedTokenizerFast(tokenizer_object=learned, eos_token="<|end|>")
    fast.chat_template = CHAT
    fast.save_pretrained(path)
    llama(data()).float().network.save_pretrained(path)
    return path


def loaded(folder, **options):
    return build_model(CausalLanguageModel(name_or_path=str(folder), **options), model_input(data()), 0, CPU).eval()


def test_the_model_of_a_folder_is_the_one_that_was_saved(folder):
    x = data().x.values
    torch.testing.assert_close(loaded(folder)(x), llama(data()).float()(x), rtol=1e-5, atol=1e-5)


def test_the_tokenizer_of_a_folder_makes_the_tokens_it_was_trained_to_make(folder):
    encoder = PretrainedVocabulary(name_or_path=str(folder)).encoder([])
    again = dataset_of("trees", EXCHANGES, encoder=encoder, template=TEMPLATE, max_length=96)
    assert torch.equal(again.x.values, data().x.values)
    assert again.token_names == data().token_names


def test_a_chat_template_writes_the_prompt_and_the_answer_ends_once(folder):
    encoder = PretrainedVocabulary(name_or_path=str(folder)).encoder([])
    found = dataset_of("trees", EXCHANGES, encoder=encoder, template="chat", max_length=160)
    ids, roles = found.x.values[1, :2]
    text = "".join(found.token_names[i] for i in ids[roles > 0].tolist())
    assert text == f"<user>{EXCHANGES[1].prompt}\n<assistant>{EXCHANGES[1].answer}"
    assert int((roles == END).sum()) == 1
    learned = BytePairs(vocabulary_size=300).encoder(texts_of(EXCHANGES, "chat"))
    with pytest.raises(DataError, match="has no chat template"):
        dataset_of("trees", EXCHANGES, encoder=learned, template="chat", max_length=96)


def test_low_rank_updates_start_from_the_model_and_alone_are_trained(folder):
    x = data().x.values
    model = loaded(folder, lora_rank=2)
    torch.testing.assert_close(model(x), loaded(folder)(x), rtol=1e-6, atol=1e-6)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    before = copy.deepcopy(model)
    method = NPO(epochs=3, optimizer=Optimizer.of("AdamW", lr=0.05))
    after = method.run(model, task(data())).model
    for (name, old), new in zip(before.named_parameters(), after.named_parameters(), strict=True):
        # Half of a fresh update is 0, so that its other half gets no gradient in the first step.
        assert torch.equal(old, new[1]) == (name not in trained), name


def test_checkpointing_changes_no_gradient(folder):
    x = data().x.values
    found = []
    for checkpointing in (False, True):
        model = loaded(folder, checkpointing=checkpointing).train()
        found.append(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_named(folder, tmp_path):
    wide = model_input(data())
    with pytest.raises(RequirementNotMet, match="knows 300 tokens, the data has 301"):
        build_model(CausalLanguageModel(name_or_path=str(folder)), type(wide)(wide.x_shape, 301, "generation", "text"), 0, CPU)
    with pytest.raises(RequirementNotMet, match="lower max_length"):
        build_model(CausalLanguageModel(name_or_path=str(folder)), type(wide)((10, 4000), 300, "generation", "text"), 0, CPU)
    with pytest.raises(RequirementNotMet, match="updates of rank 17 are not low-rank: the model is 16 wide"):
        build_model(CausalLanguageModel(name_or_path=str(folder), lora_rank=17), wide, 0, CPU)
    with pytest.raises(RequirementNotMet, match="answers prompts"):
        build_model(SmallLlama(), type(wide)((5,), 3), 0, CPU)
    with pytest.raises(RequirementNotMet, match="give a local folder"):
        build_model(CausalLanguageModel(name_or_path="nobody/nothing"), wide, 0, CPU)
    with pytest.raises(InvalidParameters, match="lora_alpha needs lora_rank"):
        CausalLanguageModel(name_or_path=str(folder), lora_alpha=4)
    with pytest.raises(DataError, match="has no tokenizer"):
        PretrainedVocabulary(name_or_path=str(tmp_path)).encoder([])


def test_data_in_the_tokens_of_another_model_is_refused(folder, tmp_path):
    ours = replace(model_input(data()), token_names=data().token_names)
    model = CausalLanguageModel(name_or_path=str(folder))
    assert model.refuse(ours) is None
    assert model.refuse(replace(ours, n_classes=290, token_names=data().token_names[:290])) is None
    learned = BytePairs(vocabulary_size=280).encoder(["other words in another order"] * 3)
    other = replace(ours, n_classes=learned.size, token_names=learned.pieces)
    assert re.search(
        "token [0-9]+ reads .* there and .* in the model; give the source .*PretrainedVocabulary", model.refuse(other)
    )
    assert replace(model, pretrained=False).refuse(other) is None
    bare = tmp_path / "bare"
    llama(data()).float().network.save_pretrained(bare)
    unnamed = CausalLanguageModel(name_or_path=str(bare))
    assert unnamed.refuse(ours) is None
    assert "knows 300 tokens, the data has 280" in unnamed.refuse(replace(ours, n_classes=280))


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    """Updates of rank 2 for the model of the folder, that are not 0."""
    peft, path = library("peft", "a test"), tmp_path_factory.mktemp("updates")
    network = library("transformers", "a test").AutoModelForCausalLM.from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between the two libraries
        adapted = peft.get_peft_model(network, peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    adapted.save_pretrained(path)
    with torch.no_grad():
        wanted = adapted(input_ids=torch.tensor([[5, 6, 7]])).logits
    return path, wanted


def test_saved_updates_become_part_of_the_weights(folder, adapter):
    model = loaded(folder, adapter=str(adapter[0]))
    with torch.no_grad():
        found = model.network(input_ids=torch.tensor([[5, 6, 7]])).logits
    torch.testing.assert_close(found, adapter[1], rtol=1e-3, atol=1e-3)
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    adapted = loaded(folder, adapter=str(adapter[0]), lora_rank=2)
    assert all(parameter.requires_grad == ("lora_" in name) for name, parameter in adapted.named_parameters())
    first = CausalLanguageModel(name_or_path=str(folder), adapter=str(adapter[0]))
    assert first.adapter_sha256 is not None
    assert first.weights_sha256 == CausalLanguageModel(name_or_path=str(folder)).weights_sha256


def test_what_rounding_takes_off_saved_updates_is_measured(folder, adapter, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(adapter[0], small)
    saved = load_file(small / "adapter_model.safetensors")
    save_file(
        {name: 1e-3 * each if "lora_B" in name else each for name, each in saved.items()}, small / "adapter_model.safetensors"
    )
    told: list[str] = []
    rounding = CausalLanguageModel(name_or_path=str(folder), adapter=str(small), dtype="bfloat16")
    coarse = build_model(rounding, model_input(data()), 0, CPU, told=told.append).state_dict()
    before, exact = (loaded(folder, **options).state_dict() for options in ({}, {"adapter": str(small)}))
    names = [name for name in before if "proj" in name]
    updates = {name: exact[name] - before[name] for name in names}
    lost = sum(float((coarse[name].float() - before[name].bfloat16().float() - updates[name]).square().sum()) for name in names)
    share = (lost / sum(float(each.square().sum()) for each in updates.values())) ** 0.5
    (said,) = told
    assert int(re.search("bfloat16 rounds ([0-9]+)% of them away; take dtype float32", said)[1]) == pytest.approx(
        100 * share, abs=2
    )


def test_updates_of_another_model_are_refused(folder, adapter, tmp_path):
    other = tmp_path / "other"
    llama(data(), width=32).float().network.save_pretrained(other)
    with pytest.raises(InvalidParameters, match="are for the model"):
        CausalLanguageModel(name_or_path=str(other), adapter=str(adapter[0]))
    unnamed = tmp_path / "unnamed"
    shutil.copytree(adapter[0], unnamed)
    described = json.loads((unnamed / "adapter_config.json").read_text())
    (unnamed / "adapter_config.json").write_text(json.dumps({**described, "base_model_name_or_path": None}))
    with pytest.raises(RequirementNotMet, match=r"do not fit this model: size mismatch for .*lora_A"):
        loaded(other, adapter=str(unnamed))
    with pytest.raises(InvalidParameters, match="has no low-rank updates"):
        CausalLanguageModel(name_or_path=str(other), adapter=str(other))
    with pytest.raises(InvalidParameters, match="has low-rank updates only") as found:
        CausalLanguageModel(name_or_path=str(adapter[0]))
    assert folder.name in found.value.problems[0].hint


def test_updates_of_a_deeper_model_of_the_same_name_are_refused(folder, adapter, tmp_path):
    shallow = tmp_path / folder.name
    llama(data(), n_layers=2).float().network.save_pretrained(shallow)
    with pytest.raises(RequirementNotMet, match="they change 21 linear maps, and this model has 14 such maps"):
        loaded(shallow, adapter=str(adapter[0]))


def test_updates_that_are_damaged_or_missing_are_named(folder, adapter, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(adapter[0], damaged)
    (damaged / "adapter_model.safetensors").write_bytes(b"none")
    with pytest.raises(RequirementNotMet, match=r"updates cannot be read: .*not a complete safetensors file"):
        loaded(folder, adapter=str(damaged))
    (damaged / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidParameters, match="describes low-rank updates and has none"):
        CausalLanguageModel(name_or_path=str(folder), adapter=str(damaged))


def test_folders_that_lack_something_say_what(tmp_path):
    with pytest.raises(InvalidParameters, match="there is no folder and no file"):
        CausalLanguageModel(name_or_path=str(tmp_path / "nowhere"))
    llama(data()).float().network.save_pretrained(tmp_path / "bare")
    with pytest.raises(DataError, match="has no tokenizer"):
        PretrainedVocabulary(name_or_path=str(tmp_path / "bare")).encoder([])


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"no weights at all"], ids=["cut", "other"])
def test_damaged_weights_are_refused_in_one_sentence(folder, tmp_path, damage):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(RequirementNotMet, match=r"cannot be loaded: .*see whether its files are whole"):
        loaded(damaged)


def test_weights_of_other_shapes_than_the_configuration_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    described = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**described, "intermediate_size": 40}))
    with pytest.raises(RequirementNotMet, match="its weights are of other shapes than its configuration says"):
        loaded(other)


def test_weights_that_need_another_library_are_refused_in_one_sentence(folder, tmp_path):
    packed = tmp_path / "packed"
    shutil.copytree(folder, packed)
    described = json.loads((packed / "config.json").read_text())
    described["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (packed / "config.json").write_text(json.dumps(described))
    with pytest.raises(RequirementNotMet, match=r"cannot be loaded: .*which libraries they need"):
        loaded(packed)


def test_a_template_must_end_the_prompt(folder):
    with pytest.raises(InvalidParameters, match="runs into the answer") as refused:
        require_template("{prompt}{answer}", "TOFU")
    assert [each.path for each in refused.value.problems] == ["TOFU.template"]
    require_template("{prompt} {answer}", "TOFU")
    encoder = PretrainedVocabulary(name_or_path=str(folder)).encoder([])
    encoder.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="ends the prompt"):
        encoder.chat("Where does the oak stand?")


def test_a_template_that_says_the_day_says_the_same_one_always(folder):
    encoder = PretrainedVocabulary(name_or_path=str(folder)).encoder([])
    encoder.tokenizer.chat_template = "{{ date_string }}{% for m in messages %}{{ m.content }}{% endfor %}<assistant>"
    assert "".join(encoder.pieces[token] for token in encoder.chat("oak")) == "10 Apr 2025oak<assistant>"


@pytest.mark.parametrize(
    "template", ["{% for m in messages %}", "{{ raise_exception('no such role') }}", "{{ messages[7].content.x }}"]
)
def test_a_template_that_cannot_be_used_is_refused_in_one_sentence(folder, template):
    encoder = PretrainedVocabulary(name_or_path=str(folder)).encoder([])
    encoder.tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"the chat template of .* cannot be used: .*give template as a text"):
        encoder.chat("Where does the oak stand?")


def test_versions_that_the_data_lacks_are_missed_before_anything_is_trained():
    lacking = model_input(data([replace(each, alternate=None, paraphrase=None, wrong=()) for each in EXCHANGES]))
    for component in (IDK(), IdkDPO()):
        assert "no alternate answers" in component.unsupported_reason(lacking)
        assert component.unsupported_reason(model_input(data())) is None
    for measure in (TruthRatio(), ForgetQuality(), MultipleChoice(), ModelUtility(), OpenUnlearningScore()):
        assert "no wrong answers" in measure.unsupported_reason(lacking)
        assert measure.unsupported_reason(model_input(data())) is None
    assert "no rephrased prompts" in PromptAttack().unsupported_reason(lacking)
    assert PromptAttack(asking=("examples",)).unsupported_reason(lacking) is None
    # Wrong answers leave room for alternates that are not there.
    bare = data([replace(each, alternate=None) for each in EXCHANGES])
    for method in (IDK(), IdkDPO()):
        assert method.unsupported_reason(model_input(bare)) is None
        assert "no alternate answers" in method.refuse_inputs(bare.x)
        assert method.refuse_inputs(data().x) is None


def test_a_gguf_file_is_known_by_its_content(tmp_path):
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    first.write_bytes(b"GGUF of no model")
    second.write_bytes(b"GGUF of another")
    prints = [PretrainedVocabulary(name_or_path=str(each)).fingerprint() for each in (first, second)]
    assert prints[0] != prints[1]
    digests = {CausalLanguageModel(name_or_path=str(each)).weights_sha256 for each in (first, second)}
    assert len(digests) == 2
    with pytest.raises(RequirementNotMet, match="cannot be loaded"):
        loaded(first)
    with pytest.raises(DataError, match="cannot be loaded"):
        PretrainedVocabulary(name_or_path=str(first)).encoder([])


def test_a_model_that_writes_is_no_model_with_labels(folder):
    network = library("transformers", "a test").AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.arange(24).reshape(4, 6)
    with pytest.raises(RequirementNotMet, match=r"LlamaForCausalLM writes texts.*erasure\.run"):
        erasure.unlearn(network, "NegGrad", train=(tokens, tokens), forget=[0])
    with pytest.raises(RequirementNotMet, match=r"AnsweringNetwork writes texts.*erasure\.run"):
        erasure.unlearn(llama(data()), "NPO", train=(data().x.values, data().y), forget=[0])
