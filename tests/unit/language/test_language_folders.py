"""Language models and their tokenizers from a folder, with and without low-rank updates."""

import copy

import pytest
import torch
from tiny_llama import EXCHANGES, TEMPLATE, data, llama, model_input, task

from erasure.data.language.exchanges import dataset_of, texts_of
from erasure.data.language.vocabularies import BytePairs, PretrainedVocabulary
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.functional.tokens import END
from erasure.models.language import CausalLanguageModel, SmallLlama
from erasure.models.text import library
from erasure.training.calls import Optimizer
from erasure.training.predictor import build_model
from erasure.unlearners.negative_preference import NPO

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
    with pytest.raises(RequirementNotMet, match="answers prompts"):
        build_model(SmallLlama(), type(wide)((5,), 3), 0, CPU)
    with pytest.raises(RequirementNotMet, match="give a local folder"):
        build_model(CausalLanguageModel(name_or_path="nobody/nothing"), wide, 0, CPU)
    with pytest.raises(InvalidParameters, match="lora_alpha needs lora_rank"):
        CausalLanguageModel(name_or_path=str(folder), lora_alpha=4)
    with pytest.raises(DataError, match="cannot be loaded"):
        PretrainedVocabulary(name_or_path=str(tmp_path)).encoder([])
