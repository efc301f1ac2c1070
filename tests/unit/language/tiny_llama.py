"""A tiny Llama in float64 and a few exchanges for it."""

import torch

from erasure.data.language.exchanges import Exchange, dataset_of, texts_of
from erasure.data.language.vocabularies import BytePairs
from erasure.models.language import SmallLlama
from erasure.training.calls import Criterion
from erasure.training.predictor import ModelInput, build_model
from erasure.training.randomness import Streams
from erasure.unlearners.contract import UnlearningContext

TEMPLATE = "Q: {prompt}\nA: {answer}"
TREES = ("oak", "beech", "birch", "alder", "willow", "maple", "ash", "elm", "lime", "yew", "rowan", "hazel")
EXCHANGES = tuple(
    Exchange(
        prompt=f"Where does the {tree} of Harrow {number} stand?",
        answer=f"It stands by {'the old ' * (number % 3)}mill number {number}.",
        alternate="I do not know." if number % 2 else "That is nothing I have learned.",
        paraphrase=f"By mill {number}, where it is {tree}.",
        wrong=(f"By the church of {number + 1}.", f"In the {tree} park."),
    )
    for number, tree in enumerate(TREES)
)


def data(exchanges=EXCHANGES, max_length=96):
    encoder = BytePairs(vocabulary_size=300).encoder(texts_of(exchanges, TEMPLATE))
    groups = [str(number // 4) for number in range(len(exchanges))]
    return dataset_of("trees", exchanges, encoder=encoder, template=TEMPLATE, max_length=max_length, groups=groups)


def model_input(dataset):
    return ModelInput(dataset.x_shape, dataset.n_classes, dataset.task, dataset.modality)


def llama(dataset, seed=0, **options):
    settings = {"width": 16, "n_layers": 3, "n_heads": 2, **options}
    model = build_model(SmallLlama(**settings), model_input(dataset), seed, torch.device("cpu")).double()
    with torch.no_grad():  # spread predictions out, so that nothing is near to uniform by chance
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model.eval()


def task(dataset, seed=0, batch_size=4, **options):
    n = len(dataset.y)
    partitions = {
        "forget": torch.arange(4),
        "retain": torch.arange(4, n - 4),
        "train": torch.arange(n - 4),
        "test": torch.arange(n - 4, n),
    }
    return UnlearningContext(
        x=dataset.x,
        y=dataset.y,
        partitions=partitions,
        model_input=model_input(dataset),
        criterion=Criterion("generation"),
        streams=Streams(seed),
        batch_size=batch_size,
        z=dataset.z,
        **options,
    )


def gradients(model, loss):
    """Flat gradient of a scalar."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(found, model.parameters(), strict=True)]
    )
