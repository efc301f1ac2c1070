"""Answers as tokens: what is labelled, what is predicted, and that nothing else matters."""

import pytest
import torch
from tiny_llama import EXCHANGES, TEMPLATE, TREES, data, llama

from erasure.data.checks import check_dataset
from erasure.data.language.exchanges import Exchange, dataset_of, require_template, texts_of
from erasure.data.language.vocabularies import BytePairs
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.functional.memorisation import exact_memorisation, extraction_strength
from erasure.functional.tokens import (
    ANSWER,
    END,
    PADDING,
    PARAPHRASE,
    PROMPT,
    UNLABELLED,
    WRONG,
    TokenTable,
    answer_losses,
    token_losses,
    token_mean,
    token_statistics,
    version_of,
)
from erasure.measures.contract import forward_pass
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion


def read(dataset, ids):
    return "".join(dataset.token_names[i] for i in ids)


def plain_losses(model, ids, n_before):
    """Losses of one answer by the network itself, without padding or a batch."""
    logits = model.network(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return -logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][n_before - 1 :]


def tokens_of(dataset, sample, version=0):
    ids, roles = dataset.x.values[sample, 2 * version], dataset.x.values[sample, 2 * version + 1]
    n = int((roles != PADDING).sum())
    return ids[:n].tolist(), int((roles == PROMPT).sum())


def test_prompt_and_answer_read_as_they_were_written():
    dataset = data()
    for sample, exchange in enumerate(EXCHANGES):
        ids, n_before = tokens_of(dataset, sample)
        assert read(dataset, ids[:n_before]) == f"Q: {exchange.prompt}\nA:"
        assert read(dataset, ids[n_before:]) == f" {exchange.answer}"
        assert dataset.y[sample][dataset.y[sample] != UNLABELLED].tolist() == ids[n_before:]
    assert dataset.x.values[:, 1].max() == END
    assert check_dataset(dataset) == []


def test_versions_share_the_prompt_and_have_answers_of_their_own():
    dataset = data()
    for version, wanted in (
        (PARAPHRASE, lambda e: e.paraphrase),
        (WRONG, lambda e: e.wrong[0]),
        (WRONG + 1, lambda e: e.wrong[1]),
    ):
        ids, n_before = tokens_of(dataset, 5, version)
        assert ids[:n_before] == tokens_of(dataset, 5)[0][:n_before]
        assert read(dataset, ids[n_before:]) == f" {wanted(EXCHANGES[5])}"
    with pytest.raises(RequirementNotMet, match="wrong answers"):
        version_of(dataset.x.values, WRONG + 2)


def test_losses_are_those_of_each_answer_alone():
    dataset, model = data(), llama(data())
    logits = model(dataset.x.values)
    losses = token_losses(logits, dataset.y)
    for sample in range(len(EXCHANGES)):
        alone = plain_losses(model, *tokens_of(dataset, sample))
        torch.testing.assert_close(losses[sample, : len(alone)], alone, rtol=0, atol=1e-12)
        assert (losses[sample, len(alone) :] == 0).all()
    each = [plain_losses(model, *tokens_of(dataset, sample)) for sample in range(len(EXCHANGES))]
    torch.testing.assert_close(token_mean(logits, dataset.y), torch.cat(each).mean(), rtol=0, atol=1e-12)
    torch.testing.assert_close(answer_losses(logits, dataset.y), torch.stack([e.mean() for e in each]), rtol=0, atol=1e-12)


def test_padding_and_the_rest_of_the_batch_make_no_difference():
    dataset, model = data(), llama(data())
    values = dataset.x.values
    wide = torch.nn.functional.pad(values, (0, 20))
    wide[:, 0::2] = torch.where(wide[:, 1::2] == PADDING, 7, wide[:, 0::2])  # whatever id pads
    together = token_losses(model(values), dataset.y)
    torch.testing.assert_close(token_losses(model(wide), dataset.y), together, rtol=0, atol=1e-12)
    alone = token_losses(model(values[3:4]), dataset.y[3:4])
    torch.testing.assert_close(alone[0], together[3, : alone.shape[1]], rtol=0, atol=1e-12)


def test_padding_on_the_left_with_a_mask_gives_the_same_logits():
    dataset, model = data(), llama(data())
    ids, _ = tokens_of(dataset, 2)
    padded = torch.tensor([[9] * 6 + ids])
    mask = torch.tensor([[0] * 6 + [1] * len(ids)])
    places = (mask.cumsum(1) - 1).clamp_min(0)
    logits = model.network(input_ids=padded, attention_mask=mask, position_ids=places).logits[0, 6:]
    expected = model.network(input_ids=torch.tensor([ids])).logits[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_the_output_layer_sees_only_what_predicts_answers():
    dataset, model = data(), llama(data())
    seen = []
    head = model.network.get_output_embeddings()
    assert model.is_plain
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[:2]))
    model(dataset.x.values)
    handle.remove()
    assert seen == [(len(EXCHANGES), dataset.y.shape[1])]


def test_a_network_with_more_than_an_output_layer_gives_its_own_logits():
    dataset, model = data(), llama(data())
    network = model.network
    plain = network.forward

    def capped(*args, **kwargs):
        output = plain(*args, **kwargs)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    network.forward, model._is_plain = capped, None
    assert not model.is_plain
    losses = token_losses(model(dataset.x.values), dataset.y)
    ids, n_before = tokens_of(dataset, 1)
    alone = plain_losses(model, ids, n_before)
    torch.testing.assert_close(losses[1, : len(alone)], alone, rtol=0, atol=1e-12)


def test_statistics_are_those_of_the_vocabulary():
    dataset, model = data(), llama(data())
    logits = model(dataset.x.values)
    found = token_statistics(logits, dataset.y)
    log_p = logits[4, 2].log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum()
    label = dataset.y[4, 2]
    wanted = torch.stack([log_p[label], (log_p.argmax() == label).double(), mean, (p * (log_p - mean) ** 2).sum()])
    torch.testing.assert_close(found[4, 2], wanted, rtol=1e-9, atol=1e-12)
    assert (found[dataset.y == UNLABELLED] == 0).all()


def test_a_pass_keeps_statistics_and_no_logits():
    dataset, model = data(), llama(data())
    ids = torch.arange(len(EXCHANGES))
    outputs = [
        forward_pass(
            model, x=dataset.x, y=dataset.y, ids=ids, criterion=Criterion("generation"), task="generation", batch_size=size
        )
        for size in (1, 5, 32)
    ]
    assert outputs[0].logits.shape == (*dataset.y.shape, 4)
    for other in outputs[1:]:
        torch.testing.assert_close(other.logits, outputs[0].logits, rtol=1e-4, atol=1e-4)
    table = outputs[0].tokens
    torch.testing.assert_close(table.losses, outputs[0].losses.double(), rtol=1e-5, atol=1e-5)
    with pytest.raises(RequirementNotMet, match="no single class"):
        outputs[0].predictions  # noqa: B018


def test_a_pass_takes_samples_by_length_and_gives_them_back_in_their_order():
    dataset, model, widths = data(), llama(data()), []
    lengths = (dataset.x.values[:, 1] != PADDING).sum(1)
    ids = torch.arange(len(EXCHANGES)).flip(0)
    hook = model.network.register_forward_pre_hook(
        lambda _, args, named: widths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    base = model.network.base_model.register_forward_pre_hook(
        lambda _, args, named: widths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    settings = {"x": dataset.x, "y": dataset.y, "criterion": Criterion("generation"), "task": "generation"}
    found = forward_pass(model, ids=ids, batch_size=4, **settings)
    hook.remove()
    base.remove()
    assert widths == lengths.sort().values[3::4].tolist()
    for place, sample in enumerate(ids.tolist()):
        alone = forward_pass(model, ids=torch.tensor([sample]), **settings)
        torch.testing.assert_close(found.losses[place], alone.losses[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.logits[place], alone.logits[0], rtol=1e-4, atol=1e-4)


def table_of(rows):
    """A table from hits written as strings."""
    longest = max(map(len, rows))
    hits = torch.tensor([[float(c == "1") for c in row.ljust(longest, "0")] for row in rows])
    labels = torch.tensor([[5 if place < len(row) else UNLABELLED for place in range(longest)] for row in rows])
    return TokenTable(torch.stack([hits - 1, hits, hits, hits], dim=-1), labels)


@pytest.mark.parametrize(
    ("hits", "strength"), [("1111", 1), ("0111", 0.75), ("1101", 0.25), ("1110", 0), ("0000", 0), ("1", 1), ("0", 0)]
)
def test_extraction_strength_is_the_run_of_hits_at_the_end(hits, strength):
    assert extraction_strength(table_of([hits, "111111"])).tolist() == [strength, 1]
    assert exact_memorisation(table_of([hits])).item() == hits.count("1") / len(hits)


def test_ends_are_left_out_where_there_is_one():
    table = table_of(["1101", "110"])
    inside = table.without_ends(torch.tensor([True, False]))
    assert inside.lengths.tolist() == [3, 3]
    assert extraction_strength(inside).tolist() == [0, 0]
    assert extraction_strength(table.without_ends(torch.tensor([False, True]))).tolist() == [0.25, 1]


def test_a_cut_answer_has_no_end():
    whole = data()
    lengths = (whole.x.values[:, 1] != PADDING).sum(1)
    cut = lengths > lengths.max() - 2
    assert cut.any()
    first = int(cut.nonzero()[0])
    with pytest.warns(UserWarning, match=rf"{int(cut.sum())} samples have an answer that ends after .* is cut .* {first}"):
        short = data(max_length=int(lengths.max()) - 2)
    assert torch.equal((short.x.values[:, 1] == END).any(1), ~cut)


@pytest.mark.parametrize(
    ("exchange", "message"),
    [
        (Exchange(prompt="Where is the elm? " * 40, answer="Here."), "leaves nothing of the answer"),
        (
            Exchange(prompt="Where is the elm?", answer="Here.", rephrased="Where is the elm? " * 40),
            "a rephrased prompt of 96 tokens",
        ),
        (Exchange(prompt="Where is the elm?", answer="  "), "empty answer"),
        (Exchange(prompt="Where is the elm?", answer=""), "empty answer"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_its_number(exchange, message):
    with pytest.raises(DataError, match="has no samples"):
        data(())
    with pytest.raises(DataError, match=rf"{message}.*sample 12"):
        data((*EXCHANGES, exchange))


@pytest.mark.parametrize("wrong", ["{answer}", "{answer} {prompt}", "{prompt}", "{prompt}{prompt}{answer}"])
def test_templates_must_name_both_sides(wrong):
    require_template("{prompt} {answer}", "LUME")
    require_template("chat", "LUME")
    with pytest.raises(InvalidParameters, match="answer"):
        require_template(wrong, "LUME")


def test_text_without_a_prompt_is_learned_from_its_second_token_on():
    exchanges = [Exchange(prompt="", answer=f"The {tree} grows.") for tree in TREES]
    encoder = BytePairs(vocabulary_size=300).encoder(texts_of(exchanges, "{prompt}{answer}"))
    dataset = dataset_of("plain", exchanges, encoder=encoder, template="{prompt}{answer}", max_length=40)
    assert (dataset.x.values[:, 1, 0] == PROMPT).all()
    assert (dataset.x.values[:, 1, 1] == ANSWER).all()
    assert check_dataset(dataset) == []
    model = llama(dataset)
    losses = token_losses(model(dataset.x.values), dataset.y)
    ids, _ = tokens_of(dataset, 0)
    torch.testing.assert_close(losses[0, : len(ids) - 1], plain_losses(model, ids, 1), rtol=0, atol=1e-12)


def test_data_whose_labels_are_not_its_answers_are_refused():
    dataset = data()
    y = dataset.y.clone()
    y[3, 0] = 10_000
    with pytest.raises(DataError, match="sample 3 has tokens outside the vocabulary"):
        check_dataset(type(dataset)(**{**vars(dataset), "y": y}))
    with pytest.raises(DataError, match="other numbers of tokens"):
        check_dataset(type(dataset)(**{**vars(dataset), "x": TensorColumn(dataset.x.values.roll(1, 0))}))


def test_generated_answers_are_the_most_likely_tokens_whatever_the_batch():
    dataset, model = data(), llama(data())
    together = model.generate(dataset.x.values[:4], end=0, max_new_tokens=6)
    for sample in range(4):
        ids, n_before = tokens_of(dataset, sample)
        written = ids[:n_before]
        for _ in range(6):
            following = int(model.network(input_ids=torch.tensor([written])).logits[0, -1].argmax())
            if following == 0:
                break
            written.append(following)
        assert together[sample] == written[n_before:]


def test_answers_are_the_most_likely_tokens_whatever_the_settings_of_the_folder():
    dataset, model = data(), llama(data())
    before = model.generate(dataset.x.values[:4], end=0, max_new_tokens=6)
    asked = model.network.generation_config
    asked.update(repetition_penalty=1.9, no_repeat_ngram_size=1, suppress_tokens=[before[0][0]], return_dict_in_generate=True)
    assert model.generate(dataset.x.values[:4], end=0, max_new_tokens=6) == before
    assert model.network.generation_config is asked
    assert len(model.generate(dataset.x.values[:1], end=None, max_new_tokens=9)[0]) == 9


def test_an_answer_goes_no_further_than_the_model_reads():
    dataset = data()
    model = llama(dataset, context=dataset.x_shape[1])
    inputs = dataset.x.values[:4]
    lengths = (inputs[:, 1] == PROMPT).sum(1).tolist()
    free = model.generate(inputs, end=0, max_new_tokens=model.context - max(lengths))
    found = model.generate(inputs, end=0, max_new_tokens=500)
    assert [each[: len(short)] for each, short in zip(found, free, strict=True)] == free
    assert all(len(each) <= model.context - length for each, length in zip(found, lengths, strict=True))
    assert any(len(each) == model.context - length for each, length in zip(found, lengths, strict=True))


def test_the_template_is_written_once_into_the_texts_of_a_learned_vocabulary():
    assert next(iter(texts_of(EXCHANGES, TEMPLATE))) == f"Q: {EXCHANGES[0].prompt}\nA:"
