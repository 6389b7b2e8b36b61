"""A certificate is about one input: models that mix a batch are refused."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import small_convnet
from conftest import smoothed
from keras import ops

import keras_smoothing as ks
from keras_smoothing import serving
from keras_smoothing.certify import model_checks
from keras_smoothing.sampling import VoteSampler

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
NOISE = ks.noise.Gaussian(0.25)
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
        if self.kind == "largest":
            return x / ops.max(ops.abs(x))
        if self.kind == "from position 4 on":
            late = ops.expand_dims(ops.arange(ops.shape(x)[0]) >= 4, 1)
            return x + ops.where(late, ops.mean(x, axis=0, keepdims=True), 0)
        if self.kind.startswith("more than"):
            crowded = ops.shape(x)[0] > int(self.kind.split()[-1])
            mean = ops.mean(x, axis=0, keepdims=True)
            return x + ops.where(crowded, mean, 0)
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


class Experts(keras.layers.Layer):
    """Sends each row to one of four; beyond their capacity rows are dropped."""

    def __init__(self, capacity_factor):
        super().__init__()
        self.capacity_factor = capacity_factor

    def build(self, input_shape):
        size = input_shape[-1]
        self.router = self.add_weight(shape=(size, 4), initializer="normal")
        self.experts = self.add_weight(
            shape=(4, size, size), initializer="normal"
        )

    def call(self, x):
        gate = ops.one_hot(ops.argmax(x @ self.router, axis=-1), 4)
        place = ops.sum(gate * ops.cumsum(gate, axis=0), axis=-1)
        rows = ops.cast(ops.shape(x)[0], "float32")
        served = place <= ops.ceil(self.capacity_factor * rows / 4)
        gate = gate * ops.expand_dims(ops.cast(served, "float32"), 1)
        return x + ops.einsum("be,eij,bi->bj", gate, self.experts, x)


class LastIs(keras.layers.Layer):
    """Puts a number in the place of the last output."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def call(self, x):
        is_last = ops.arange(x.shape[-1]) == x.shape[-1] - 1
        return ops.where(is_last, self.value, x)


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


def check_independence(model, x, noise=NOISE, copies=64, sampler=VoteSampler):
    model_checks.check_that_examples_do_not_mix(
        sampler(model, noise), x, copies
    )


def with_dense(*layers, shape=(4,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input(shape), keras.layers.Dense(3), *layers]
    )


@pytest.mark.parametrize(
    "kind",
    [
        "mean",
        "a thousandth of the mean",
        "neighbours",
        "largest",
        "contrast",
        "before",
        "from position 4 on",
        "more than 8",
        "more than 256",
    ],
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
            match=r"output \[\d\] moves by [\d.e+-]+ for the same noisy inputs",
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


@pytest.mark.parametrize("value", [-1e9, -1e4, -np.inf])
def test_a_masked_logit_hides_no_dependence(value):
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [keras.Input((4,)), BatchStatistics(momentum=1.0), LastIs(value)]
    )
    with pytest.raises(ValueError, match="what else is in the batch"):
        smoothed(base).certify(X, **SETTINGS)


def test_what_all_logits_have_in_common_hides_no_dependence():
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((4,)),
            BatchStatistics(momentum=1.0),
            keras.layers.Rescaling(1, offset=1e6),
        ]
    )
    with pytest.raises(ValueError, match="what else is in the batch"):
        smoothed(base).certify(X, **SETTINGS)


def test_a_large_coordinate_hides_no_dependence():
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [keras.Input((4,)), BatchStatistics(momentum=1.0), LastIs(1e6)]
    )
    model = ks.SmoothedRegression(base, NOISE)
    with pytest.raises(ValueError, match=r"output \[[01]\] moves"):
        model.certify(X, radii=0.1, **SETTINGS)


@pytest.mark.parametrize("capacity_factor", [0.25, 1.0, 1.25])
def test_experts_with_a_capacity_are_refused(capacity_factor):
    base = with_dense(Experts(capacity_factor))
    with pytest.raises(ValueError, match="experts with a capacity"):
        smoothed(base).certify(X, **SETTINGS)
    smoothed(with_dense(Experts(100))).certify(X, **SETTINGS)


def test_nan_beside_some_inputs_is_a_dependence():
    def spoilt_by_zeros(x):
        return x + ops.where(ops.any(ops.all(x == 0, axis=1)), np.nan, 0.0)

    base = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(spoilt_by_zeros)]
    )
    with pytest.raises(ValueError, match="beside other inputs"):
        smoothed(base).certify(X, **SETTINGS)


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.2, 0.5, 1.0])
def test_random_models_are_not_refused_by_mistake(probability):
    for seed in range(10):
        check_independence(with_dense(SometimesRandom(probability, seed)), X)


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


# What rounding makes of these is large beside some of their outputs.
SENSITIVE = {
    "masked logits": [LastIs(-1e9)],
    "infinite outputs": [LastIs(np.inf)],
    "a large coordinate": [LastIs(1e6)],
    "large numbers that cancel": [
        keras.layers.Dense(512, bias_initializer="random_normal"),
        keras.layers.Rescaling(1, offset=1e3),
        keras.layers.Dense(64),
        keras.layers.LayerNormalization(),
    ],
    "confident probabilities": [
        keras.layers.Rescaling(1e3),
        keras.layers.Softmax(),
    ],
    "their logarithms": [
        keras.layers.Rescaling(1e3),
        keras.layers.Lambda(keras.ops.log_softmax),
    ],
    "jumps": [
        keras.layers.Dense(256),
        keras.layers.Lambda(ops.sign),
        keras.layers.Dense(256),
        keras.layers.Lambda(ops.sign),
        keras.layers.Dense(3),
    ],
    "running statistics": [keras.layers.BatchNormalization()],
    "experts for all": [Experts(100)],
    "a sequence": [
        keras.layers.Reshape((3, 1)),
        keras.layers.LSTM(32),
        keras.layers.Dense(3),
    ],
    "no answer": [keras.layers.Rescaling(0)],
}


@pytest.mark.parametrize("layers", SENSITIVE.values(), ids=SENSITIVE)
@pytest.mark.parametrize("sigma", [1e-3, 0.25])
def test_rounding_is_not_mistaken(layers, sigma):
    base = with_dense(*layers)
    check_independence(base, X, ks.noise.Gaussian(sigma), copies=1024)


def test_batches_are_as_large_as_those_of_the_run(monkeypatch):
    sizes = []

    def answer(x):
        sizes.append(len(x))
        return x

    base = ks.from_function(answer, 4, "itself", (4,))
    model = ks.SmoothedModel(base, NOISE)

    def largest(**settings):
        sizes.clear()
        model.classify(X, alpha=0.2, seed=0, **settings)
        return max(sizes)

    assert largest(n=200) == 1024
    assert largest(n=200, batch_size=100) == 100
    assert largest(n=20) == 16 * 20
    monkeypatch.setattr(model_checks, "_VALUES", 4 * 150)
    sizes.clear()
    check_independence(base, X, copies=1024)
    assert max(sizes) == 150
    # A batch of one shows nothing.
    sizes.clear()
    check_independence(base, X, copies=1)
    assert max(sizes) == 8


def test_an_export_and_a_service_are_checked_for_full_batches(tmp_path):
    model = smoothed(with_dense(Mix("more than 256")))
    with pytest.raises(ValueError, match="what else is in the batch"):
        model.export(tmp_path / "exported")
    with pytest.raises(ValueError, match="what else is in the batch"):
        serving.Service(model, n=100)


def test_certificates_do_not_depend_on_the_check():
    model = smoothed(with_dense())
    one = model.certify(X, **SETTINGS)
    other = model.certify(X, check_independence=False, **SETTINGS)
    np.testing.assert_array_equal(one.counts, other.counts)
