"""Random changes of pictures: each by a draw of its own, in training alone, and part of what a model's address is made of."""

import importlib.util

import numpy as np
import pytest
import torch

from erasure.component import canonical
from erasure.data.sources.synthetic import SyntheticImages
from erasure.errors import InvalidParameters, RequirementNotMet, UnknownComponent
from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.registry.lookup import Registry
from erasure.training.augmentation import Augmentation, RandomCrop, RandomFlip, TorchVisionTransform, augmenting
from erasure.training.batches import Batches, TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble.choice import impossible
from erasure.training.predictor import ModelInput, Predictor, build_model, train

PICTURES = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
COLUMN = TensorColumn(PICTURES, scale=1 / 255, mean=torch.full((3, 1, 1), 0.5), std=torch.full((3, 1, 1), 0.25))
CPU = torch.device("cpu")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def fitted(augment=(), seed=0, on_epoch=None, **changes):
    predictor = Predictor(model=CNN(channels=(4,), hidden_sizes=()), augment=augment, **{"epochs": 3, **changes})
    model = build_model(predictor.model, ModelInput((3, 6, 5), 2, modality="image"), seed, CPU)
    return train(
        model,
        predictor,
        x=COLUMN,
        y=torch.arange(40) % 2,
        ids=torch.arange(40),
        criterion=Criterion("classification"),
        seed=seed,
        batch_size=16,
        validation_ids=torch.arange(10),
        on_epoch=on_epoch,
    )


def test_each_picture_is_mirrored_or_not_by_itself():
    changed = RandomFlip().apply(PICTURES, draws())
    as_it_was = (changed == PICTURES).flatten(1).all(1)
    mirrored = (changed == PICTURES.flip(-1)).flatten(1).all(1)
    assert (as_it_was ^ mirrored).all()
    assert 8 <= int(mirrored.sum()) <= 32
    assert torch.equal(RandomFlip(probability=1.0, direction="vertical").apply(PICTURES, draws()), PICTURES.flip(-2))
    assert torch.equal(RandomFlip(probability=0.0).apply(PICTURES, draws()), PICTURES)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_each_picture_is_shifted_to_a_place_of_its_own(mode):
    padding, fill = 2, 7
    changed = RandomCrop(padding=padding, mode=mode, fill=fill).apply(PICTURES, draws())
    numpy_mode = {"mode": "constant", "constant_values": fill} if mode == "constant" else {"mode": "reflect"}
    padded = torch.from_numpy(np.pad(PICTURES.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)), **numpy_mode))
    places = set()
    for before, after in zip(padded, changed, strict=True):
        found = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if torch.equal(before[:, top : top + 6, left : left + 5], after)
        ]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 10
    assert {top for top, _ in places} == {left for _, left in places} == set(range(2 * padding + 1))


def test_what_is_learned_from_is_changed_before_it_is_normalised_and_nothing_else_is():
    mirrored = augmenting([RandomFlip(probability=1.0)], COLUMN, draws())
    plain, changed = (
        list(Batches(COLUMN, torch.arange(40), torch.arange(40), 16, draws(), augment)) for augment in (None, mirrored)
    )
    for before, after in zip(plain, changed, strict=True):
        assert torch.equal(after.ids, before.ids)
        assert torch.equal(after.x, before.x.flip(-1))
    black = augmenting([RandomCrop(padding=4)], COLUMN, draws())
    edges = torch.cat([batch.x for batch in Batches(COLUMN, torch.arange(40), torch.arange(40), 16, None, black)])
    assert edges.min() == pytest.approx(-2.0)  # 0 minus the mean 0.5, over the deviation 0.25
    assert torch.equal(COLUMN.values, PICTURES)


def test_training_draws_the_same_for_the_same_seed_and_leaves_the_other_streams_alone():
    first = flat(fitted([RandomFlip()]))
    state = torch.get_rng_state()
    assert torch.equal(first, flat(fitted([RandomFlip()])))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, flat(fitted([RandomFlip()], seed=1)))
    assert not torch.equal(first, flat(fitted()))
    # Initial weights, shuffling and dropout are as they would be without it.
    assert torch.equal(flat(fitted([RandomFlip(probability=0.0)])), flat(fitted()))


def test_early_stopping_sees_the_pictures_as_they_are():
    def epochs_until_it_stops(augment):
        heard = []
        fitted(
            augment,
            epochs=50,
            patience=4,
            validation_set="validation",
            # The weights stay as they are, so that the validation loss only changes if the pictures do.
            optimizer=Optimizer.of("SGD", lr=0.0),
            on_epoch=lambda epoch, epochs, model: heard.append(epoch),
        )
        return len(heard)

    assert epochs_until_it_stops([RandomCrop(padding=4)]) == epochs_until_it_stops(()) == 4


def test_addresses_change_where_there_is_augmentation_and_only_there():
    plain = canonical(Predictor(model=MLP()))
    assert "augment" not in plain["parameters"]
    assert canonical(Predictor(model=MLP(), augment=[RandomFlip()])) != plain
    flips = [canonical(Predictor(model=MLP(), augment=[RandomFlip(probability=p)])) for p in (0.5, 0.3)]
    assert flips[0] != flips[1]


def test_only_pictures_can_be_changed_so():
    table = TensorColumn(torch.zeros(4, 7))
    assert "pictures of shape (channels, height, width); the data has samples of shape (7,)" in RandomFlip().unsupported_reason(
        table
    )
    assert "larger than the pictures" in RandomCrop(padding=5, mode="reflect").unsupported_reason(COLUMN)
    assert RandomCrop(padding=5).unsupported_reason(COLUMN) is None
    with pytest.raises(RequirementNotMet, match="RandomFlip changes pictures"):
        augmenting([RandomFlip()], table, draws())


def test_models_that_draw_for_themselves_are_trained_one_by_one():
    model = build_model(MLP(), ModelInput((3,), 2), 0, CPU)
    assert impossible(model, Predictor(model=MLP())) is None
    assert "augmentation" in impossible(model, Predictor(model=MLP(), augment=[RandomFlip()]))


def test_the_stream_of_a_batch_does_not_depend_on_how_many_batches_are_read_at_a_time():
    wide = TensorColumn(torch.randint(0, 256, (40, 3, 200, 300), dtype=torch.uint8), scale=1 / 255)  # one batch a block
    narrow = TensorColumn(wide.values[:, :, :6, :5].contiguous(), scale=1 / 255)  # all in one block
    ids = torch.arange(40)
    flips = [
        torch.cat(
            [
                torch.where((batch.x == x.gather(batch.ids)).flatten(1).all(1), 0, 1)
                for batch in Batches(x, ids, ids, 8, None, augmenting([RandomFlip()], x, draws()))
            ]
        )
        for x in (wide, narrow)
    ]
    assert torch.equal(flips[0], flips[1])
    assert 0 < flips[0].sum() < 40


class TestTorchVision:
    """Transforms of torchvision."""

    pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")

    def test_every_picture_has_a_draw_of_its_own_unless_some_share_one(self):
        same = PICTURES[:1].expand(8, -1, -1, -1)
        jitter = TorchVisionTransform(path="ColorJitter", parameters={"brightness": [0.1, 0.9]})
        state = torch.get_rng_state()
        alone = jitter.apply(same, draws())
        assert torch.equal(state, torch.get_rng_state())
        assert len({picture.numpy().tobytes() for picture in alone}) == 8
        shared = jitter.replace(share=4).apply(same, draws())
        assert torch.equal(shared[0], shared[3])
        assert not torch.equal(shared[0], shared[4])
        assert torch.equal(alone, jitter.apply(same, draws()))
        assert not torch.equal(alone, jitter.apply(same, draws(1)))

    def test_mirroring_is_done_for_whole_batches_and_still_picture_by_picture(self):
        named = TorchVisionTransform(path="torchvision.transforms.v2.RandomHorizontalFlip", parameters={"p": 0.3})
        assert torch.equal(named.apply(PICTURES, draws()), RandomFlip(probability=0.3).apply(PICTURES, draws()))

    @pytest.mark.parametrize(
        ("path", "parameters"),
        [
            ("RandomRotation", {"degrees": 20}),
            ("RandomErasing", {"p": 1.0}),
            ("RandomCrop", {"size": [6, 5], "padding": 1}),
            ("RandomAffine", {"degrees": 0, "translate": [0.2, 0.2]}),
            ("TrivialAugmentWide", {}),
        ],
    )
    def test_a_model_is_trained_with_it(self, path, parameters):
        augment = [TorchVisionTransform(path=path, parameters=parameters)]
        assert augment[0].unsupported_reason(COLUMN) is None
        first = flat(fitted(augment, epochs=1))
        assert torch.isfinite(first).all()
        assert torch.equal(first, flat(fitted(augment, epochs=1)))
        assert not torch.equal(first, flat(fitted(epochs=1)))

    def test_one_that_changes_size_or_type_is_refused(self):
        smaller = TorchVisionTransform(path="RandomResizedCrop", parameters={"size": [3, 3]})
        assert "makes uint8 of shape (2, 3, 3, 3) of uint8 of shape (2, 3, 6, 5)" in smaller.unsupported_reason(COLUMN)

    def test_wrong_names_and_parameters_are_refused_with_the_nearest(self):
        with pytest.raises(InvalidParameters, match=r'no transform "ColorJiter".*did you mean "ColorJitter"'):
            TorchVisionTransform(path="ColorJiter")
        with pytest.raises(InvalidParameters, match="ColorJitter does not accept its parameters"):
            TorchVisionTransform(path="ColorJitter", parameters={"brightness": -1.0})

    def test_a_configuration_names_it_by_its_name_or_path(self):
        for name in ("ColorJitter", "torchvision.transforms.v2.ColorJitter", "torchvision.transforms.ColorJitter"):
            resolved = Registry().resolve(name, Augmentation)
            assert resolved.cls is TorchVisionTransform
            assert resolved.fixed == {"path": "torchvision.transforms.v2.ColorJitter"}
        assert Registry().resolve("RandomCrop", Augmentation).cls is RandomCrop
        with pytest.raises(UnknownComponent, match="ColorJitter"):
            Registry().resolve("ColorJiter", Augmentation)


def test_synthetic_pictures_that_are_no_bytes_can_be_changed_too():
    data = SyntheticImages().load()
    changed = RandomFlip(probability=1.0).apply(data.x.rows(torch.arange(3)), draws())
    assert torch.equal(changed, data.x.values[:3].flip(-1))
