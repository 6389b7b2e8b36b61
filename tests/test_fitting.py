import keras
import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing import backend
from keras_smoothing.sampling import fitting
from keras_smoothing.sampling import free_bytes

X = np.random.default_rng(0).random((5, 8), np.float32)


def dense(*units):
    layers = [keras.layers.Dense(size) for size in units]
    return keras.Sequential([keras.Input((8,)), *layers])


def certify(**arguments):
    keras.utils.set_random_seed(0)
    model = ks.SmoothedModel(dense(50, 3), ks.noise.Gaussian(0.5))
    return model.certify(X, n=500, alpha=0.01, seed=0, verbose=0, **arguments)


@pytest.fixture
def has_free(monkeypatch):
    def has_free(count):
        monkeypatch.setattr(fitting, "free_bytes", lambda: count)

    return has_free


def test_the_peak_of_a_chain_is_its_widest_step():
    # 400 numbers before the bias and 400 after it.
    forward = backend.ModelGraph(dense(400, 10, 300))
    assert forward.bytes_per_example((8,)) == 4 * 800


def test_a_branch_is_held_until_it_is_read():
    inputs = keras.Input((8,))
    early = keras.layers.Dense(100)(inputs)
    late = keras.layers.Dense(30)(keras.layers.Dense(200)(early))
    model = keras.Model(inputs, keras.layers.Concatenate()([early, late]))
    forward = backend.ModelGraph(model)
    # 200 numbers before and after their bias; no longer the input.
    assert forward.bytes_per_example((8,)) == 4 * (100 + 200 + 200)


# Of the second, windows shrink, too.
@pytest.mark.parametrize("free, copies", [(40_000, 73), (1_500, 2)])
def test_a_large_batch_is_made_to_fit_with_the_same_votes(
    has_free, free, copies
):
    whole = certify()
    has_free(2 * free)
    warning = f"Not 1,024 noisy copies .* but {copies}: more would take over"
    with pytest.warns(UserWarning, match=warning):
        in_parts = certify()
    np.testing.assert_array_equal(whole.counts, in_parts.counts)
    np.testing.assert_array_equal(whole.radius, in_parts.radius)


def test_a_copy_that_does_not_fit_is_refused(has_free):
    has_free(100)
    with pytest.raises(ValueError, match=r"noisy copy of shape \(8,\) to fit"):
        certify()


def test_outputs_of_all_draws_that_do_not_fit_are_refused():
    model = ks.SmoothedRegression(dense(3), ks.noise.Gaussian(0.5))
    with pytest.raises(ValueError, match="outputs of 2,000,000,000 draws"):
        model.certify(X, radii=[0.1], n=2_000_000_000, verbose=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, n: model.certify(X, n=n, verbose=0),
        lambda model, n: model.certify(X, n0=n, verbose=0),
        lambda model, n: model.classify(X, n=n),
        lambda model, n: ks.AdaptiveSampling(max_n=n, width=0.1),
        lambda model, n: ks.plan(n, 0.001, model.noise),
    ],
)
def test_more_draws_than_can_be_counted_are_refused(call):
    model = ks.SmoothedModel(dense(3), ks.noise.Gaussian(0.5))
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1 draws"):
        call(model, 10**30)


def test_a_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(fitting, "_LIMITS", (str(limit),))
    machine = free_bytes()
    limit.write_text("max\n")
    assert free_bytes() == pytest.approx(machine, rel=0.5)
    limit.write_text("1000\n")
    assert free_bytes() == 0
