"""Weights that another thread changes while a run draws."""

import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.sampling.sampler import Sampler

# Two windows.
X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
SETTINGS = dict(alpha=0.01, seed=0)
GAUSSIAN = ks.noise.Gaussian(0.25)


def classes():
    return smoothed(linear_model(np.ones(4)))


def regression():
    return ks.SmoothedRegression(linear_model(np.ones(4)), GAUSSIAN)


def multi_label():
    return ks.SmoothedMultiLabel(linear_model(np.ones(4)), GAUSSIAN)


@pytest.fixture
def train_in_second_window(monkeypatch):
    """A function of a model, whose weights change while the next run draws."""

    def begin(model):
        undisturbed = Sampler.blocks

        def disturbed(self, x, **arguments):
            yield from undisturbed(self, x, **arguments)
            if len(x) == len(X) - 16:
                weights = model.base_model.get_weights()
                model.base_model.set_weights([w + 1 for w in weights])

        monkeypatch.setattr(Sampler, "blocks", disturbed)

    return begin


@pytest.mark.parametrize(
    "make,arguments",
    [
        (classes, dict(n=500)),
        (regression, dict(n=500, radii=[0.1])),
        (multi_label, dict(n=500)),
    ],
    ids=["classes", "intervals", "components"],
)
def test_no_row_of_mixed_draws_is_logged(
    make, arguments, train_in_second_window, monkeypatch, tmp_path
):
    model, path = make(), tmp_path / "run.tsv"
    arguments = {**SETTINGS, **arguments, "verbose": 0}
    expected = model.certify(X, **arguments).prediction
    weights = model.base_model.get_weights()
    train_in_second_window(model)
    with pytest.raises(RuntimeError, match="Expected weights that stay"):
        model.certify(X, log=path, **arguments)
    assert len(path.read_text().splitlines()) == 1 + 16
    monkeypatch.undo()
    model.base_model.set_weights(weights)
    resumed = model.certify(X, log=path, **arguments)
    np.testing.assert_array_equal(resumed.prediction, expected)


def test_a_memory_keeps_nothing_of_mixed_draws(train_in_second_window):
    model = classes()
    train_in_second_window(model)
    with ks.CertificationMemory() as memory:
        with pytest.raises(RuntimeError, match="Expected weights that stay"):
            model.certify(X, n=500, memory=memory, verbose=0, **SETTINGS)
        assert 0 < len(memory) <= 16
    with ks.CertificationMemory() as memory:
        with pytest.raises(RuntimeError, match="Expected weights that stay"):
            model.classify(X, n=500, memory=memory, **SETTINGS)
        assert 0 < len(memory) <= 16


@pytest.mark.parametrize("make", [classes, multi_label])
def test_no_class_is_of_mixed_draws(make, train_in_second_window):
    model = make()
    train_in_second_window(model)
    with pytest.raises(RuntimeError, match="Expected weights that stay"):
        model.classify(X, n=500, **SETTINGS)


def test_weights_may_change_between_runs():
    model = classes()
    before = model.certify(X, n=500, verbose=0, **SETTINGS)
    weights = model.base_model.get_weights()
    model.base_model.set_weights([-w for w in weights])
    after = model.certify(X, n=500, verbose=0, **SETTINGS)
    certified = before.prediction != ks.ABSTAIN
    assert certified.any()
    np.testing.assert_array_equal(
        after.prediction[certified], 1 - before.prediction[certified]
    )
    answers = model.classify(X, n=500, **SETTINGS)
    certified &= answers != ks.ABSTAIN
    np.testing.assert_array_equal(
        answers[certified], after.prediction[certified]
    )
