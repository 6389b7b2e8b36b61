import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_convnet

import keras_smoothing as ks
from keras_smoothing.certificates import tiles
from keras_smoothing.sampling import VoteSampler


class BitsOfNoise(keras.layers.Layer):
    """Votes for a class that depends on every bit of the input."""

    def call(self, inputs):
        bits = tf.bitcast(inputs, tf.int32)
        return tf.one_hot(tf.reduce_sum(bits, axis=-1) % 16, 16)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 16)


@pytest.fixture(scope="module")
def sampler():
    model = keras.Sequential([keras.Input((100,)), BitsOfNoise()])
    return VoteSampler(model, ks.noise.Gaussian(1.0))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(40, 100)).astype("float32")


def count(sampler, x, start=0, stop=3_000, batch_size=1024, seed=5, stream=1):
    return sampler.count(
        x,
        seed=seed,
        stream=stream,
        start=start,
        stop=stop,
        batch_size=batch_size,
    ).counts


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1024])
def test_draws_do_not_depend_on_batch_size(sampler, x, batch_size):
    stop = 300 if batch_size == 1 else 3_000
    counts = count(sampler, x[:3], stop=stop, batch_size=batch_size)
    np.testing.assert_array_equal(counts, count(sampler, x[:3], stop=stop))
    assert counts.dtype == np.int64
    assert (counts.sum(axis=1) == stop).all()


def test_draws_do_not_depend_on_the_other_examples(sampler, x):
    together = count(sampler, x)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(count(sampler, x[order]), together[order])
    alone = [count(sampler, x[i : i + 1])[0] for i in range(5)]
    np.testing.assert_array_equal(alone, together[:5])


@pytest.mark.parametrize("cut", [1, 100, 1023, 1024, 2_500])
def test_ranges_of_draws_add_up(sampler, x, cut):
    parts = count(sampler, x[:3], stop=cut) + count(sampler, x[:3], start=cut)
    np.testing.assert_array_equal(parts, count(sampler, x[:3]))


def test_seeds_and_streams_give_other_draws(sampler, x):
    counts = [
        count(sampler, x[:1], seed=seed, stream=stream).tobytes()
        for seed in (0, 1, 2**62)
        for stream in (tiles.SELECTION, tiles.ESTIMATION, tiles.PREDICTION)
    ]
    assert len(set(counts)) == len(counts)


def test_large_examples_take_several_tiles_in_one_batch():
    shape = (64, 64, 3)  # 64 draws in a tile.
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), BitsOfNoise()]
    )
    sampler = VoteSampler(model, ks.noise.Uniform(1.0))
    x = np.zeros((1, *shape), "float32")
    np.testing.assert_array_equal(
        count(sampler, x, stop=500, batch_size=400),
        count(sampler, x, stop=500, batch_size=30),
    )


def test_noise_of_all_draws_has_its_law():
    # The votes of a threshold on one coordinate are those of the normal law.
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.eye(2), np.zeros(2)])
    sampler = VoteSampler(model, ks.noise.Gaussian(1.0))
    x = np.array([[1.0, 0.0]], "float32")
    counts = count(sampler, x, stop=200_000)
    # P(1 + e_0 > e_1) = Phi(1 / sqrt(2)) = 0.76025; the deviation is 1e-3.
    assert counts[0, 0] / 200_000 == pytest.approx(0.76025, abs=4e-3)


def test_convolutions_move_at_most_single_votes():
    keras.utils.set_random_seed(0)
    sampler = VoteSampler(small_convnet(), ks.noise.Gaussian(0.5))
    x = np.random.default_rng(0).random((4, 8, 8, 1)).astype("float32")
    one = count(sampler, x, stop=100_000)
    other = count(sampler, x, stop=100_000, batch_size=100)
    assert np.abs(one - other).sum(axis=1).max() / 2 <= 1


def test_a_nan_votes_for_no_class():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    kernel = np.zeros((2, 3), "float32")
    kernel[0, 1] = np.nan
    model.layers[0].set_weights([kernel, np.zeros(3, "float32")])
    sampler = VoteSampler(model, ks.noise.Gaussian(1.0))
    assert count(sampler, np.zeros((1, 2), "float32")).sum() == 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_noise_is_added_in_float32_under_any_policy(policy):
    keras.mixed_precision.set_global_policy(policy)
    dense = keras.layers.Dense(2)
    seen = []

    class Spy(keras.Model):
        def call(self, inputs, training=None):
            outputs = dense(inputs)
            seen.append((inputs.dtype, outputs.dtype))
            return outputs

    model = Spy(autocast=False)
    model(np.zeros((1, 4), "float32"))
    sampler = VoteSampler(model, ks.noise.Gaussian(1.0))
    seen.clear()
    assert count(sampler, np.zeros((1, 4), "float32"), stop=10).sum() == 10
    narrow = tf.as_dtype(policy.removeprefix("mixed_"))
    assert set(seen) == {(tf.float32, narrow)}


@pytest.mark.slow
def test_loops_over_models_and_sizes_do_not_warn_of_retracing(caplog):
    logger = tf.get_logger()
    propagate, logger.propagate = logger.propagate, True
    rng = np.random.default_rng(0)
    try:
        flexible = keras.Sequential(
            [
                keras.Input((None, None, 1)),
                keras.layers.Conv2D(3, 3),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        any_size = VoteSampler(flexible, ks.noise.Gaussian(1.0))
        for side in range(6, 12):
            x = rng.random((2, side, side, 1), np.float32)
            count(any_size, x, stop=10)
        for sigma in (0.1, 0.2, 0.3, 0.4, 0.5):
            base = small_convnet((6, 6, 1))
            model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma))
            x = rng.random((2, 6, 6, 1), np.float32)
            model.certify(x, n=100, alpha=0.1, seed=0, verbose=0)
    finally:
        logger.propagate = propagate
    assert "retracing" not in caplog.text
