"""Noise in front of existing models."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import logits_loss
from conftest import small_convnet
from scipy import stats

import keras_smoothing as ks

NOISES = [ks.noise.Gaussian(0.3), ks.noise.Laplace(0.3), ks.noise.Uniform(0.3)]


def functional():
    inputs = keras.Input((8, 8, 1))
    one = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    two = keras.layers.Add()([one, inputs])
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(two))
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = small_convnet()

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 1), "float32"))
    return model


@pytest.fixture(params=[small_convnet, functional, subclassed])
def model(request):
    keras.utils.set_random_seed(0)
    return request.param()


@pytest.fixture
def x():
    return np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")


def test_the_model_stays_as_it_is_and_shares_its_weights(model, x):
    before = np.array(model(x))
    noisy = ks.add_input_noise(model, ks.noise.Gaussian(0.3), seed=1)
    np.testing.assert_array_equal(before, np.array(model(x)))
    outputs = [np.array(noisy(x)) for _ in range(2)]
    assert not np.array_equal(*outputs)
    assert not np.array_equal(outputs[0], before)
    kernel = noisy.trainable_weights[0]
    assert kernel is model.trainable_weights[0]
    noisy.compile("adam", logits_loss())
    noisy.fit(x, np.arange(6), verbose=0)
    assert not np.array_equal(before, np.array(model(x)))


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_smoothed_models_add_the_noise_once(model, x, noise):
    smoothed = ks.SmoothedModel(ks.add_input_noise(model, noise))
    assert repr(smoothed.noise) == repr(noise)
    settings = dict(n=1_000, seed=0, verbose=0)
    plain = ks.SmoothedModel(model, noise).certify(x, **settings)
    np.testing.assert_array_equal(
        smoothed.certify(x, **settings).counts, plain.counts
    )


def test_outputs_in_a_list_keep_their_names():
    inputs = keras.Input((4,))
    label = keras.layers.Dense(3, name="label")(inputs)
    sick = keras.layers.Dense(1, activation="sigmoid", name="sick")(inputs)
    base = keras.Model(inputs, [label, sick])
    noisy = ks.add_input_noise(base, ks.noise.Gaussian(0.3))
    assert noisy.output_names == ["label", "sick"]
    noisy.compile("sgd", {"sick": "binary_crossentropy", "label": "mse"})
    x, y = np.zeros((4, 4)), {"sick": np.zeros((4, 1)), "label": np.eye(4, 3)}
    noisy.fit(x, y, verbose=0)
    # The activation of the last layer is found behind its name.
    model = ks.SmoothedModel(noisy, output="sick")
    assert model.certify(x, n=100, verbose=0).counts.shape == (4, 2)


def test_noise_has_its_law_at_the_input():
    identity = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    noisy = ks.add_input_noise(identity, ks.noise.Gaussian(0.3))
    draws = np.array(noisy(np.ones((5_000, 2), "float32"))) - 1
    assert stats.kstest(draws.ravel(), stats.norm(0, 0.3).cdf).pvalue > 1e-3


def test_preprocessing_stays_behind_the_noise():
    # Sigma is in units of the input, here 0..255.
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Rescaling(1 / 255),
            *linear_model([1.0], bias=-0.5).layers,
        ]
    )
    noisy = ks.add_input_noise(model, ks.noise.Gaussian(0.25 * 255))
    x = np.array([[0.9 * 255]], "float32")
    result = ks.SmoothedModel(noisy).certify(x, n=50_000, seed=0, verbose=0)
    assert result.radius[0] == pytest.approx(0.4 * 255, rel=0.05)
    assert result.radius[0] < 0.4 * 255


def test_it_saves_and_loads_and_is_recognised_again(model, x, tmp_path):
    if isinstance(model, Subclassed):
        pytest.skip("A subclass of a test module cannot be loaded by name.")
    noisy = ks.add_input_noise(model, ks.noise.Laplace(0.2), seed=3)
    noisy.save(tmp_path / "noisy.keras")
    loaded = keras.saving.load_model(tmp_path / "noisy.keras")
    smoothed = ks.SmoothedModel(loaded)
    assert repr(smoothed.noise) == "Laplace(scale=0.2)"
    settings = dict(n=500, seed=0, verbose=0)
    np.testing.assert_array_equal(
        smoothed.certify(x, **settings).counts,
        ks.SmoothedModel(noisy).certify(x, **settings).counts,
    )
    smoothed.save(tmp_path / "smoothed.keras")
    again = keras.saving.load_model(tmp_path / "smoothed.keras")
    np.testing.assert_array_equal(
        smoothed.certify(x, **settings).counts,
        again.certify(x, **settings).counts,
    )


def test_a_first_layer_of_noise_is_recognised(x):
    base = small_convnet()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            ks.layers.GaussianNoiseAlways(0.3),
            *base.layers,
        ]
    )
    smoothed = ks.SmoothedModel(model)
    settings = dict(n=500, seed=0, verbose=0)
    np.testing.assert_array_equal(
        smoothed.certify(x, **settings).counts,
        ks.SmoothedModel(base, ks.noise.Gaussian(0.3))
        .certify(x, **settings)
        .counts,
    )
    with pytest.warns(UserWarning, match=r"begins with Gaussian\(sigma=0.3\)"):
        ks.SmoothedModel(model, ks.noise.Gaussian(0.25))


def test_noise_that_is_bypassed_is_no_input_noise():
    # A part of the model sees the clean input: that certifies nothing.
    inputs = keras.Input((4,))
    noisy = ks.layers.GaussianNoiseAlways(0.3)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Add()([inputs, noisy]))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="begins with one layer of always-on"):
        ks.SmoothedModel(model)


def test_noise_is_found_wherever_it_comes_first(x):
    noise_layer = ks.layers.GaussianNoiseAlways(0.3)
    noise_layer(np.zeros((1, 5), "float32"))  # used elsewhere before
    grown = keras.Sequential([keras.Input((8, 8, 1))])
    grown.add(noise_layer)
    grown.add(keras.layers.Flatten())
    grown.add(keras.layers.Dense(10))
    around = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            ks.add_input_noise(small_convnet(), ks.noise.Gaussian(0.3)),
            keras.layers.Softmax(),
        ]
    )
    inputs = keras.Input((8, 8, 1))
    y = noise_layer(keras.layers.Conv2D(1, 1)(noise_layer(inputs)))
    twice = keras.Model(
        inputs, keras.layers.Dense(10)(keras.layers.Flatten()(y))
    )
    for model in (grown, around, twice):
        smoothed = ks.SmoothedModel(model)
        assert repr(smoothed.noise) == "Gaussian(sigma=0.3)"
        certified = smoothed.certify(x, n=50, alpha=0.1, verbose=0)
        assert (certified.counts.sum(axis=1) == 50).all()


class Clipped(ks.layers.GaussianNoiseAlways):
    """Noise of another law, though its class derives from a noise layer."""

    def call(self, inputs):
        return keras.ops.clip(super().call(inputs), 0, 1)


def test_what_is_not_just_noise_is_not_recognised(x):
    for first in (Clipped(0.3), ks.layers.GaussianNoiseAlways(0.0)):
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), first, *small_convnet().layers]
        )
        with pytest.raises(ValueError, match="begins with one layer"):
            ks.SmoothedModel(model)


def test_two_noises_in_a_row_survive_saving(x, tmp_path):
    # The second is part of a base model that is itself random.
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            ks.layers.GaussianNoiseAlways(0.3),
            ks.layers.GaussianNoiseAlways(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    smoothed = ks.SmoothedModel(model)
    smoothed.save(tmp_path / "smoothed.keras")
    loaded = keras.saving.load_model(tmp_path / "smoothed.keras")
    assert repr(loaded.noise) == "Gaussian(sigma=0.3)"
    spread = np.std([loaded.base_model(x) for _ in range(50)], axis=0)
    assert spread.min() > 0


def test_inputs_of_whole_numbers_are_refused():
    model = keras.Sequential(
        [keras.Input((4,), dtype="uint8"), keras.layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="input of floating type"):
        ks.SmoothedModel(model, ks.noise.Gaussian(0.3))
    with pytest.raises(ValueError, match="input of floating type"):
        ks.add_input_noise(model, ks.noise.Gaussian(0.3))


def test_a_model_of_keras_applications():
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5
    )
    noisy = ks.add_input_noise(model, ks.noise.Gaussian(0.5))
    x = np.zeros((2, 32, 32, 3), "float32")
    result = ks.SmoothedModel(noisy).certify(x, n=50, alpha=0.1, verbose=0)
    assert (result.counts.sum(axis=1) == 50).all()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(model=keras.layers.Dense(2)), "Expected a Keras model"),
        (dict(model=Subclassed()), "must have been called once"),
        (
            dict(
                model=ks.add_input_noise(
                    small_convnet(), ks.noise.Gaussian(1.0)
                )
            ),
            "which adds Gaussian",
        ),
        (dict(noise=0.25), "Expected Gaussian, Laplace or Uniform"),
    ],
)
def test_bad_arguments(arguments, message):
    good = dict(model=small_convnet(), noise=ks.noise.Gaussian(0.3))
    with pytest.raises(ValueError, match=message):
        ks.add_input_noise(**{**good, **arguments})
