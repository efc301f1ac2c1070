"""Trees of scikit-learn as models: they predict what scikit-learn predicts, and nothing can be deleted from them."""

import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from erasure.errors import RequirementNotMet
from erasure.models.tree_ensembles import GradientBoosting, RandomForest
from erasure.training.batches import Batch
from erasure.training.predictor import ModelInput


def samples(n_classes, missing=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 4, generator=generator)
    y = torch.randint(0, n_classes, (90,), generator=generator)
    keep = y != missing if missing is not None else torch.ones(90, dtype=torch.bool)
    return Batch(x[keep], y[keep], torch.arange(int(keep.sum())))


@pytest.mark.parametrize(
    ("model", "other"),
    [
        (RandomForest(trees=7, max_depth=4), lambda: RandomForestClassifier(7, max_depth=4, random_state=5)),
        (
            GradientBoosting(rounds=5, rate=0.3, max_depth=2),
            lambda: GradientBoostingClassifier(n_estimators=5, learning_rate=0.3, max_depth=2, random_state=5),
        ),
    ],
    ids=["forest", "boosting"],
)
@pytest.mark.parametrize(("n_classes", "task"), [(2, "binary"), (2, "classification"), (3, "classification")])
def test_predictions_are_those_of_scikit_learn(model, other, n_classes, task):
    given = samples(n_classes)
    made = model.build(ModelInput(x_shape=(4,), n_classes=n_classes, task=task)).eval()
    made.fit(given, 5)
    expected = torch.from_numpy(other().fit(given.x.numpy(), given.y.numpy()).predict_proba(given.x.numpy()))
    assert torch.allclose(made.predict_proba(given.x).double(), expected, atol=1e-5)
    loaded = model.build(ModelInput(x_shape=(4,), n_classes=n_classes, task=task))
    loaded.load_state_dict(made.state_dict())
    assert torch.equal(loaded(given.x), made(given.x))


@pytest.mark.parametrize("model", [RandomForest(trees=3), GradientBoosting(rounds=3)])
def test_classes_that_are_missing_are_never_predicted_and_nothing_can_be_deleted(model):
    data = ModelInput(x_shape=(4,), n_classes=3)
    given, made = samples(3, missing=1), model.build(data)
    made.fit(given, 0)
    assert 1 not in made(given.x).argmax(1).tolist()
    assert made.exactness == "none"
    with pytest.raises(RequirementNotMet, match="retrain"):
        made.delete(given, lambda: given)
    only = Batch(given.x[given.y == 2], given.y[given.y == 2], given.ids[given.y == 2])
    made.fit(only, 0)
    assert set(made(given.x).argmax(1).tolist()) == {2}
    with pytest.raises(RequirementNotMet, match="multilabel"):
        model.build(ModelInput(x_shape=(4,), n_classes=3, task="multilabel"))
