import keras
import numpy as np
import pytest

import keras_smoothing as ks

LAYERS = [
    (ks.layers.GaussianNoiseAlways, 1.0),
    (ks.layers.LaplaceNoiseAlways, np.sqrt(2)),
    (ks.layers.UniformNoiseAlways, 1 / np.sqrt(3)),
]


@pytest.mark.parametrize("kind,stddev_of_unit", LAYERS)
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_noise_has_its_scale_in_training_and_inference(
    kind, stddev_of_unit, scale
):
    layer = kind(scale, seed=0)
    zeros = np.zeros((100, 500), "float32")
    draws = [np.asarray(layer(zeros)) for _ in range(2)]
    model = keras.Sequential([keras.Input((500,)), layer])
    draws += [np.asarray(model(zeros, training=t)) for t in (False, True)]
    draws += [model.predict(zeros, verbose=0) for _ in range(2)]
    for draw in draws:
        assert draw.std() == pytest.approx(scale * stddev_of_unit, rel=0.02)
    assert len({draw.tobytes() for draw in draws}) == len(draws)


@pytest.mark.parametrize("kind,_", LAYERS)
def test_zero_is_no_noise(kind, _):
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(np.asarray(kind(0)(x)), x)


@pytest.mark.parametrize("kind,_", LAYERS)
@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf"), "a"])
def test_bad_scales_are_refused(kind, _, scale):
    with pytest.raises(ValueError, match="Expected a finite number >= 0"):
        kind(scale)


def test_the_rest_of_the_model_keeps_its_mode():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            ks.layers.GaussianNoiseAlways(1.0),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )
    before = [np.array(w) for w in model.get_weights()]
    outputs = model.predict(np.ones((200, 5), "float32"), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (outputs != 0).all()  # Dropout is off.


def test_same_seed_same_noise():
    x = np.zeros((4, 4), "float32")
    draws = [
        np.asarray(ks.layers.GaussianNoiseAlways(1.0, seed=7)(x))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("kind,_", LAYERS)
def test_complex_inputs_do_not_lose_their_imaginary_part(kind, _):
    x = np.ones((2, 3), "complex64")
    with pytest.raises(ValueError, match="Expected inputs of real numbers"):
        kind(0.1)(x)
