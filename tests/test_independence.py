"""A certificate is about one input: models that mix a batch are refused."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import small_convnet
from conftest import smoothed
from keras import ops

import keras_smoothing as ks
from keras_smoothing.certification import independence
from keras_smoothing.voting import VoteCounter

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
SETTINGS = dict(n=300, alpha=0.01, seed=0, verbose=0)


class Mix(keras.layers.Layer):
    """Adds to each row what is found in the rest of the batch."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, x):
        if self.kind == "mean":
            return x + ops.mean(x, axis=0, keepdims=True)
        if self.kind == "a thousandth of the mean":
            return x + 1e-3 * ops.mean(x, axis=0, keepdims=True)
        if self.kind == "neighbours":
            return x + ops.roll(x, 1, axis=0)
        if self.kind == "contrast":
            shares = ops.softmax(x @ ops.transpose(x), axis=-1)
            return shares @ x
        return x + ops.cumsum(x, axis=0)  # Of those before it in the batch.


class BatchStatistics(keras.Model):
    def __init__(self, momentum):
        super().__init__()
        self.normalization = keras.layers.BatchNormalization(momentum=momentum)
        self.dense = keras.layers.Dense(3)

    def call(self, x, training=None):
        return self.dense(self.normalization(x, training=True))


class SometimesRandom(keras.layers.Layer):
    """Moves a row far away with a probability."""

    def __init__(self, probability, seed):
        super().__init__()
        self.probability = probability
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x):
        rows = (ops.shape(x)[0], 1)
        ticket = keras.random.uniform(rows, seed=self.seed_generator)
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        hit = ops.cast(ticket < self.probability, "float32")
        return x + 10 * hit * noise


def check_independence(model, x, noise):
    independence.check_independence(VoteCounter(model, noise), x)


def with_dense(*layers, shape=(4,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input(shape), keras.layers.Dense(3), *layers]
    )


@pytest.mark.parametrize(
    "kind",
    ["mean", "a thousandth of the mean", "neighbours", "contrast", "before"],
)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_models_that_mix_the_batch_are_refused(kind):
    model = smoothed(with_dense(Mix(kind)))
    for run in (model.certify, model.classify):
        settings = dict(SETTINGS)
        if run == model.classify:
            settings.pop("verbose")
        with pytest.raises(
            ValueError,
            match=r"move by [\d.e-]+ of their size when they are (alone|bes)",
        ) as error:
            run(X, **settings)
        assert "pass check_independence=False" in str(error.value)
        run(X, check_independence=False, **settings)


@pytest.mark.parametrize("examples", [1, 2, 6])
def test_one_example_alone_is_enough_to_see_it(examples):
    with pytest.raises(ValueError, match="what else is in the batch"):
        smoothed(with_dense(Mix("mean"))).certify(X[:examples], **SETTINGS)


def test_batch_statistics_are_refused_and_the_running_ones_kept():
    base = BatchStatistics(momentum=0.9)
    base(X)
    before = base.get_weights()
    with pytest.raises(ValueError, match="called: .*moving_mean") as error:
        smoothed(base).certify(X, **SETTINGS)
    assert "pass check_independence=False" in str(error.value)
    for old, new in zip(before, base.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # Where the running ones stand still, the outputs give it away.
    base = BatchStatistics(momentum=1.0)
    base(X)
    with pytest.raises(ValueError, match="what else is in the batch"):
        smoothed(base).certify(X, **SETTINGS)


@pytest.mark.parametrize("nested", [False, True])
def test_stateful_layers_are_refused(nested):
    inner = keras.Sequential(
        [
            keras.Input(batch_shape=(8, 5, 4)),
            keras.layers.LSTM(6, stateful=True),
            keras.layers.Dense(3),
        ]
    )
    base = inner
    if nested:
        inputs = keras.Input(batch_shape=(8, 5, 4))
        base = keras.Model(inputs, inner(inputs))
    x = np.zeros((3, 5, 4), "float32")
    with pytest.raises(ValueError, match="this is stateful: lstm"):
        smoothed(base).certify(x, **SETTINGS)


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.2, 0.5, 1.0])
def test_random_models_are_not_refused_by_mistake(probability):
    noise = ks.noise.Gaussian(0.25)
    for seed in range(25):
        model = with_dense(SometimesRandom(probability, seed))
        check_independence(model, X, noise)


def test_random_self_ensembles_are_not_refused(digits):
    noisy = ks.randomize(small_convnet(), 0.2, 0.1, verbose=False)
    for _ in range(20):
        check_independence(noisy, digits[0][:8], ks.noise.Gaussian(0.25))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_rounding_in_a_narrow_type_is_not_mistaken(policy, digits):
    keras.mixed_precision.set_global_policy(policy)
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        check_independence(
            small_convnet(), digits[0][:8], ks.noise.Gaussian(0.25)
        )
    with pytest.raises(ValueError, match="what else is in the batch"):
        check_independence(
            with_dense(Mix("neighbours")), X, ks.noise.Gaussian(0.25)
        )


def test_solvers_that_amplify_rounding_are_not_mistaken():
    # Anderson steps to a loose tolerance: which step is the last, and what
    # rounding makes of it, differs from batch to batch.
    cell = ks.equilibrium.cells.DenseCell(32)
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        solver = ks.equilibrium.Anderson(tol=1e-2)
        base = keras.Sequential(
            [
                keras.Input((4,)),
                ks.layers.DeepEquilibrium(
                    type(cell).from_config(cell.get_config()), solver=solver
                ),
                keras.layers.Dense(3),
            ]
        )
        check_independence(base, 3 * X, ks.noise.Gaussian(1.0))


def test_outputs_of_nan_are_left_to_the_votes():
    base = linear_model([np.nan, 1.0])
    check_independence(base, np.ones((2, 2), "float32"), ks.noise.Gaussian(1.0))


def test_certificates_do_not_depend_on_the_check():
    model = smoothed(with_dense())
    one = model.certify(X, **SETTINGS)
    other = model.certify(X, check_independence=False, **SETTINGS)
    np.testing.assert_array_equal(one.counts, other.counts)
