"""The networks of the paper on multiscale deep equilibrium models."""

import keras
import numpy as np
import pytest
from conftest import logits_loss

from keras_smoothing import applications
from keras_smoothing import equilibrium
from keras_smoothing.layers.deep_equilibrium import DeepEquilibrium


def equilibrium_layer(model):
    (layer,) = (x for x in model.layers if isinstance(x, DeepEquilibrium))
    return layer


def shapes(model):
    return [branch.shape[1:] for branch in equilibrium_layer(model).output]


@pytest.mark.parametrize(
    "build,paper",
    [(applications.mdeq_small, 170e3), (applications.mdeq_large, 10e6)],
)
def test_sizes_are_near_the_papers(build, paper):
    model = build((32, 32, 3), 10)
    count = sum(np.prod(w.shape) for w in model.trainable_weights)
    assert 0.85 < count / paper < 1.15
    assert model.output_shape == (None, 10)
    assert model.name == build.__name__


def test_branches_of_the_networks():
    model = applications.mdeq_small((28, 28, 1), 5)
    assert shapes(model) == [(28, 28, 8), (14, 14, 16), (7, 7, 32)]
    model = applications.mdeq_large((32, 32, 3), 5)
    assert [s[-1] for s in shapes(model)] == [32, 64, 128, 256]
    assert [s[0] for s in shapes(model)] == [32, 16, 8, 4]


@pytest.mark.parametrize(
    "size,halvings,finest",
    [(32, None, 32), (128, None, 32), (30, 1, 15), (40, 3, 5)],
)
def test_large_images_are_halved_first(size, halvings, finest):
    model = applications.mdeq_small((size, size, 3), 4, halvings)
    assert shapes(model)[0] == (finest, finest, 8)


def test_arguments_are_passed_through():
    solver = equilibrium.Broyden(max_iter=7)
    model = applications.mdeq_small(
        (8, 8, 1), 3, dropout=0.25, solver=solver, gradient="phantom", name="m"
    )
    layer = equilibrium_layer(model)
    assert layer.solver is solver and model.name == "m"
    assert isinstance(layer.gradient, equilibrium.Phantom)
    assert layer.cell.dropout == 0.25


@pytest.mark.slow
def test_the_small_network_trains_and_is_saved(tmp_path):
    keras.utils.set_random_seed(0)
    solver = equilibrium.Anderson(max_iter=6)
    model = applications.mdeq_small((8, 8, 1), 2, dropout=0.1, solver=solver)
    x = np.random.default_rng(0).random((32, 8, 8, 1)).astype("float32")
    y = np.arange(32) % 2
    x[y == 1, :4] *= 0.2
    model.compile(keras.optimizers.Adam(3e-3), logits_loss())
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4
    )


@pytest.mark.slow
def test_a_new_network_has_fixed_points():
    keras.utils.set_random_seed(0)
    model = applications.mdeq_small((14, 14, 1), 2)
    layer = equilibrium_layer(model)
    x = np.random.default_rng(0).random((4, 14, 14, 1)).astype("float32")
    stem = keras.Model(model.input, layer.input)
    _, solution = layer(stem(x, training=True), return_solution=True)
    assert (np.array(solution.residual) < 5e-3).all()
