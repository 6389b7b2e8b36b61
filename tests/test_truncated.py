"""Equilibrium networks of few steps, and solutions used again."""

import keras
import numpy as np
import pytest
from conftest import logits_loss
from keras import ops

import keras_smoothing as ks
from keras_smoothing.equilibrium import cells
from keras_smoothing.serialized.split import split

SOLVER = ks.equilibrium.FixedPointIteration(200, tol=1e-6)


def network(kind="dense"):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2))
    if kind == "dense":
        cell = cells.ContractiveDense(12, contraction=0.6)
        z = ks.layers.DeepEquilibrium(cell, SOLVER, name="deq")(
            keras.layers.Flatten()(inputs)
        )
    else:
        cell = cells.MultiscaleCell([4, 4], num_groups=2)
        z = ks.layers.DeepEquilibrium(cell, name="deq")(
            keras.layers.Conv2D(4, 3, padding="same")(inputs)
        )
        z = [keras.layers.GlobalAveragePooling2D()(branch) for branch in z]
        z = keras.layers.Concatenate()(z)
    return keras.Model(inputs, keras.layers.Dense(3)(z))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(300, 6, 6, 2)).astype("f4")


def mean_state(model, x):
    parts = split(model)
    z = parts.layer(parts.before(x))
    return keras.tree.map_structure(lambda part: ops.mean(part, axis=0), z)


def after(model, state, examples, steps):
    """Outputs after some steps of the cell from one state for all."""
    parts = split(model)
    features = parts.before(examples)
    z = keras.tree.map_structure(
        lambda part: ops.stack([part] * len(examples)), state
    )
    for _ in range(steps):
        z = parts.layer.cell(z, features)
    return np.asarray(parts.head(z))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "multiscale"])
@pytest.mark.parametrize("start", ["mean", "learned"])
def test_it_takes_so_many_steps_from_one_start(kind, start, x):
    model = network(kind)
    short = ks.serialized.truncate(model, 2, start, x)
    mean = keras.tree.map_structure(
        ops.convert_to_numpy, short.get_layer("start").state
    )
    if kind == "dense":  # Others need not converge.
        np.testing.assert_allclose(mean, mean_state(model, x), atol=1e-5)
    # What is learned begins as one step more.
    expected = after(model, mean, x[:5], 2 + (start == "learned"))
    received = short.predict(x[:5], verbose=0)
    size = np.abs(expected).max()
    np.testing.assert_allclose(received, expected, atol=1e-4 * size)
    assert np.abs(received - model.predict(x[:5], verbose=0)).max() > 3e-4
    alone = short.predict(x[:1], verbose=0)
    np.testing.assert_allclose(alone, received[:1], atol=1e-5 * size)


def test_without_examples_it_starts_at_the_fixed_point_of_zeros(x):
    model = network()
    short = ks.serialized.truncate(model, 1)
    expected = after(model, mean_state(model, 0 * x[:1]), x[:5], 1)
    np.testing.assert_allclose(
        short.predict(x[:5], verbose=0), expected, atol=1e-5
    )


def test_many_steps_are_the_model(x):
    model = network()
    short = ks.serialized.truncate(model, 60, x=x)
    np.testing.assert_allclose(
        *(m.predict(x[:5], verbose=0) for m in (short, model)), atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("start", ["mean", "learned"])
def test_fit_trains_the_copy_and_certify_takes_it(start, x, tmp_path):
    y = (x.sum(axis=(1, 2, 3)) > 0).astype(int)
    model = network()
    model.compile(keras.optimizers.Adam(0.01), logits_loss())
    weights = model.get_weights()
    short = ks.serialized.truncate(model, 1, start, x)
    before = short.evaluate(x, y, verbose=0)[0]
    first = [w.copy() for w in short.get_weights()]
    short.fit(x, y, epochs=5, verbose=0)
    assert short.evaluate(x, y, verbose=0)[0] < before - 0.1
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    state = next(w for w in short.weights if "start" in w.path)
    index = [w.path for w in short.weights].index(state.path)
    moved = np.abs(short.get_weights()[index] - first[index]).max() > 0
    assert moved == (start == "learned")

    short.save(tmp_path / "short.keras")
    loaded = keras.saving.load_model(tmp_path / "short.keras")
    noise = ks.noise.Gaussian(0.25)
    results = [
        ks.SmoothedModel(m, noise).certify(x[:8], n=200, seed=0, verbose=0)
        for m in (short, loaded)
    ]
    assert (results[0].radius > 0).any()
    np.testing.assert_array_equal(results[0].counts, results[1].counts)


def test_a_multiscale_network_is_saved(x, tmp_path):
    short = ks.serialized.truncate(network("multiscale"), 1, x=x[:20])
    short.save(tmp_path / "short.keras")
    loaded = keras.saving.load_model(tmp_path / "short.keras")
    np.testing.assert_array_equal(
        *(m.predict(x[:5], verbose=0) for m in (short, loaded))
    )


def test_only_finite_fixed_points_count(x):
    model = network()
    bad = x.copy()
    bad[::2] = np.nan
    received = ks.serialized.truncate(model, 1, x=bad)
    expected = ks.serialized.truncate(model, 1, x=x[1::2])
    np.testing.assert_allclose(
        *(m.predict(x[:5], verbose=0) for m in (received, expected)), atol=1e-5
    )
    with pytest.raises(ValueError, match="examples with finite fixed points"):
        ks.serialized.truncate(model, 1, x=bad[::2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(steps=0), "`steps`. Expected an integer >= 1"),
        (dict(steps=1, start="zero"), "`start`. Expected one of"),
        (dict(steps=1, layer="other"), "Expected a Sequential or functional"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.serialized.truncate(network(), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "multiscale"])
def test_a_warm_start_saves_steps(kind, x):
    model = network(kind)
    solver = ks.equilibrium.FixedPointIteration(200, tol=1e-4)
    model.get_layer("deq").solver = solver
    stream = ks.serialized.WarmStart(model)
    steps = []
    for frame in range(4):
        moved = x[:3] + 1e-3 * frame * x[3:6]
        received = stream(moved)
        steps.append(np.asarray(stream.solution.num_steps))
        np.testing.assert_allclose(
            received, model.predict(moved, verbose=0), atol=2e-2
        )
    assert (steps[1:] < 0.7 * steps[0]).all()
    stream.reset()
    stream(x[:3])
    np.testing.assert_array_equal(stream.solution.num_steps, steps[0])


def test_a_warm_start_begins_anew_after_nan_and_other_shapes(x):
    model = network()
    stream = ks.serialized.WarmStart(model)
    stream(np.where(np.arange(3)[:, None, None, None] == 1, np.nan, x[:3]))
    received = stream(x[:3])
    expected = model.predict(x[:3], verbose=0)
    np.testing.assert_allclose(received, expected, atol=1e-4)
    np.testing.assert_allclose(stream(x[:2]), expected[:2], atol=1e-4)
    with pytest.raises(ValueError, match="Expected a Sequential or functional"):
        ks.serialized.WarmStart(keras.Sequential([keras.layers.Dense(2)]))
