"""A sigma for each training example, kept from epoch to epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import Constant
from conftest import RootNorm
from conftest import logits_loss
from scipy import special
from scipy.stats import norm

import keras_smoothing as ks
from keras_smoothing.logs import fingerprint

OBJECTIVES = {
    "gaussian": lambda: ks.training.GaussianAugmentation(),
    "stability": lambda: ks.training.Stability(gamma=1.0),
    "consistency": lambda: ks.training.Consistency(2, weight=1.0, eta=0.1),
    "smooth_adv": lambda: ks.training.SmoothAdv(0.1, num_steps=1),
    "macer": lambda: ks.training.MACER(2, weight=1.0),
}
EXAMPLES, CLASSES, DRAWS = 12, 3, 5
SIGMA, LOW, HIGH = 0.3, 0.1, 0.6


def data():
    x = np.random.default_rng(0).uniform(size=(EXAMPLES, 4)).astype("float32")
    return x, x[:, :CLASSES].argmax(axis=1)


def base_model(*hidden, activation=None, stddev=0.1):
    initializer = keras.initializers.RandomNormal(stddev=stddev)
    output = keras.layers.Dense(
        CLASSES, activation=activation, kernel_initializer=initializer
    )
    return keras.Sequential([keras.Input((4,)), *hidden, output])


def steep(activation=None):
    return base_model(activation=activation, stddev=3.0)


def data_dependent(objective="gaussian", **settings):
    if isinstance(objective, str):
        objective = OBJECTIVES[objective]()
    settings = dict(learning_rate=0.05, num_draws=DRAWS, beta=1.0) | settings
    return ks.training.DataDependent(objective, EXAMPLES, LOW, HIGH, **settings)


def compiled(
    objective=None, base=None, noise=None, optimizer=None, loss=None, **kwargs
):
    """A smoothed model, always with the same weights and draws."""
    keras.utils.set_random_seed(5)
    model = ks.SmoothedModel(
        (base or base_model)(), noise or ks.noise.Gaussian(SIGMA), seed=5
    )
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        loss or logits_loss(),
        objective=objective or data_dependent(),
        **kwargs,
    )
    return model


def sigmas(model):
    return model.objective_state.sigma.numpy()


def indexed(x, index=None):
    return {"x": x, "index": np.arange(len(x)) if index is None else index}


@keras.saving.register_keras_serializable()
class Shift(ks.noise.Gaussian):
    """As if all draws were one: what is found depends on no order."""

    def sample(self, shape, seed):
        return self.sigma * keras.ops.ones(shape)


GAPS = {
    ks.noise.Gaussian: lambda p, q: (norm.ppf(p) - norm.ppf(q)) / 2,
    ks.noise.Laplace: lambda p, q: (
        max(np.log(p / q) / 2, -np.log1p(q - p)) / np.sqrt(2)
    ),
    ks.noise.Uniform: lambda p, q: np.sqrt(3) * (p - q),
}


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
@pytest.mark.parametrize("kind", GAPS)
def test_sigma_climbs_the_radius_as_a_slow_reference_does(kind, outputs):
    x, y = data()
    index = np.array([7, 2, 11, 0, 5])
    x, y = x[index], y[index]
    model = compiled(
        data_dependent(steps=2, sigma_start=0.2),
        lambda: steep(None if outputs == "logits" else "softmax"),
        kind(SIGMA),
        loss=keras.losses.SparseCategoricalCrossentropy(outputs == "logits"),
        run_eagerly=True,
    )
    # Two steps of the ascent, and then one copy to train on.
    state = model.seed_generator.state
    before = np.array(state)
    draws = [
        np.float64(model.draw_noise(x, count)(0 * x)).reshape(count, *x.shape)
        for count in (DRAWS, DRAWS, 1)
    ]
    state.assign(before)
    kernel, bias = (np.float64(w) for w in model.base_model.get_weights())

    def p(i, sigma, draws):
        noisy = np.float64(x[i]) + sigma / model.noise.stddev * draws[:, i]
        return special.softmax(noisy @ kernel + bias, axis=-1).mean(axis=0)

    def radius(i, sigma, draws):
        *_, q, p1 = np.sort(p(i, sigma, draws))
        return sigma * GAPS[kind](min(p1, 0.999), max(q, 0.001))

    expected, losses = np.full(EXAMPLES, 0.2), []
    for i, number in enumerate(index):
        sigma = 0.2
        for drawn in draws[:2]:
            rise = radius(i, sigma + 1e-6, drawn) - radius(
                i, sigma - 1e-6, drawn
            )
            sigma = np.clip(sigma + 0.05 * rise / 2e-6, LOW, HIGH)
        expected[number] = sigma
        losses.append(-np.log(p(i, sigma, draws[2])[y[i]]))

    logs = model.train_on_batch(indexed(x, index), y, return_dict=True)
    found = sigmas(model)
    np.testing.assert_allclose(found - 0.2, expected - 0.2, atol=1e-5)
    assert np.abs(found[index] - 0.2).min() > 1e-3
    assert np.ptp(found[index]) > 0.01
    np.testing.assert_allclose(logs["sigma"], found[index].mean(), rtol=1e-5)
    # The loss knows nothing of sigma but the size of the noise.
    np.testing.assert_allclose(logs["loss"], np.mean(losses), rtol=1e-4)
    assert set(logs) == {"loss", "sigma"}


def test_each_sigma_is_that_of_its_index_whatever_the_order():
    x, y = data()
    still = keras.optimizers.SGD(0.0)
    one_by_one = compiled(None, noise=Shift(SIGMA), optimizer=still)
    for i in np.repeat(np.arange(EXAMPLES)[::-1], 3):
        one_by_one.train_on_batch(indexed(x[[i]], np.array([i])), y[[i]])
    expected = sigmas(one_by_one)
    assert len(np.unique(np.round(expected, 5))) == EXAMPLES
    model = compiled(
        None, noise=Shift(SIGMA), optimizer=keras.optimizers.SGD(0.0)
    )
    model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    order = np.random.default_rng(1).permutation(EXAMPLES)
    model.fit(indexed(x[order], order), y[order], batch_size=5, verbose=0)
    np.testing.assert_allclose(sigmas(model), expected, rtol=1e-5)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size):
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, i):
        index = np.arange(len(self.x))[
            i * self.batch_size : (i + 1) * self.batch_size
        ]
        return indexed(self.x[index], index), self.y[index]


def numbered(x, y, first=0):
    """The form that the docstring of `DataDependent` shows."""
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    return dataset.enumerate(first).map(
        lambda i, xy: ({"x": xy[0], "index": i}, xy[1])
    )


def test_every_form_of_data_is_trained_on_alike():
    x, y = data()
    found = []
    settings = dict(shuffle=False, verbose=0)
    for train, arguments in (
        ((x, y), dict(batch_size=5, sample_weight=np.ones(EXAMPLES))),
        ((indexed(x), y), dict(batch_size=5, class_weight={0: 1.0})),
        ((numbered(x, y).batch(5),), {}),
        ((Batches(x, y, 5),), dict(validation_data=Batches(x, y, 5))),
        ((x, y, 5), dict(validation_data=(x, y))),
    ):
        model = compiled(noise=Shift(SIGMA), run_eagerly=True)
        history = model.fit(*train, **settings, **arguments).history
        found.append([sigmas(model), *model.get_weights()])
        for one, other in zip(found[0], found[-1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        assert set(history) - {"val_loss"} == {"loss", "sigma"}
    for examples in (x, indexed(x)):
        assert isinstance(model.evaluate(examples, y, verbose=0), float)
    assert model.predict(x, verbose=0).shape == (EXAMPLES, CLASSES)


def test_examples_that_are_set_apart_or_not_reached_keep_their_sigma():
    x, y = data()
    model = compiled(run_eagerly=True)
    settings = dict(batch_size=3, shuffle=False, verbose=0)
    history = model.fit(x, y, validation_split=0.25, **settings).history
    assert "val_loss" in history
    moved = sigmas(model) != np.float32(SIGMA)
    np.testing.assert_array_equal(moved, np.arange(EXAMPLES) < 9)
    model = compiled(run_eagerly=True)
    model.fit(x, y, steps_per_epoch=2, **settings)
    moved = sigmas(model) != np.float32(SIGMA)
    np.testing.assert_array_equal(moved, np.arange(EXAMPLES) < 6)


def test_a_model_saved_in_training_goes_on_as_if_it_had_not_been(tmp_path):
    x, y = data()
    settings = dict(batch_size=5, shuffle=False, verbose=0)
    model = compiled(None, noise=Shift(SIGMA), optimizer="adam")
    model.fit(x, y, epochs=2, **settings)
    before = sigmas(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(sigmas(loaded), before)
    for each in (model, loaded):
        each.fit(x, y, **settings)
    assert not np.any(sigmas(model) == before)
    np.testing.assert_allclose(sigmas(loaded), sigmas(model), rtol=1e-6)
    for one, other in zip(
        loaded.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_sigmas_are_state_of_training_and_not_weights_of_the_model(tmp_path):
    x, y = data()
    plain = compiled(ks.training.GaussianAugmentation(), run_eagerly=True)
    model = compiled(run_eagerly=True)
    assert fingerprint(model.base_model) == fingerprint(plain.base_model)
    assert len(model.weights) == len(plain.weights)
    assert len(model.trainable_weights) == len(plain.trainable_weights)
    # Weights go from one to the other, and back.
    plain.fit(x, y, verbose=0)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(sigmas(model), np.float32(SIGMA))
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = compiled()
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(sigmas(other), sigmas(model))
    plain.load_weights(tmp_path / "model.weights.h5")
    for one, other in zip(
        plain.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    # Of another objective no sigma is left, also in a file.
    model.compile("sgd", logits_loss(), run_eagerly=True)
    assert model.objective_state is None
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").built


def test_the_same_objective_compiled_again_goes_on():
    x, y = data()
    model = compiled(run_eagerly=True)
    model.fit(x, y, verbose=0)
    before = sigmas(model)
    model.compile("sgd", logits_loss(), objective=model.objective)
    np.testing.assert_array_equal(sigmas(model), before)
    model.compile("sgd", logits_loss(), objective=data_dependent())
    np.testing.assert_array_equal(sigmas(model), np.float32(SIGMA))


def test_the_search_leaves_batch_statistics_alone():
    x, y = data()
    layer = keras.layers.BatchNormalization(momentum=0.5)
    model = compiled(
        data_dependent(steps=3, sigma_start=HIGH, learning_rate=1e-9),
        lambda: base_model(layer),
        Shift(SIGMA),
        run_eagerly=True,
    )
    model.train_on_batch(indexed(x), y)
    # One update, by the pass of the training step.
    np.testing.assert_allclose(
        layer.moving_mean, (x.mean(axis=0) + HIGH) / 2, rtol=1e-4
    )
    np.testing.assert_allclose(
        layer.moving_variance, 0.5 + x.var(axis=0) / 2, rtol=1e-3
    )


class AtScale(ks.training.GaussianAugmentation):
    """With noise of given sizes."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, model, x, y, sample_weight):
        return super().__call__(model, x, y, sample_weight, self.scale)


def test_sigma_is_a_constant_to_the_weights():
    x, y = data()
    model = compiled(
        data_dependent(steps=2, learning_rate=0.1),
        steep,
        Shift(SIGMA),
        run_eagerly=True,
    )
    model.train_on_batch(indexed(x), y)
    assert np.ptp(sigmas(model)) > 0.1
    twin = compiled(
        AtScale(sigmas(model) / np.float32(SIGMA)),
        steep,
        Shift(SIGMA),
        run_eagerly=True,
    )
    twin.train_on_batch(x, y)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def constant(*outputs):
    return lambda: keras.Sequential([keras.Input((4,)), Constant(outputs)])


@pytest.mark.parametrize(
    "outputs,slope",
    [
        ((200.0, -200.0, 0.0), norm.ppf(0.999)),
        ((9.0, 0.0, 0.0), norm.ppf(0.999)),
        ((1.0, 1.0, 0.0), 0.0),
        ((np.nan, 0.0, 0.0), 0.0),
        ((np.inf, 0.0, 0.0), 0.0),
    ],
)
def test_at_the_clamp_and_where_nothing_is_known(outputs, slope):
    x, y = data()
    for steps in (1, 9):
        model = compiled(
            data_dependent(steps=steps, sigma_start=0.2, learning_rate=0.02),
            constant(*outputs),
            run_eagerly=True,
        )
        model.train_on_batch(indexed(x), y)
        expected = min(0.2 + steps * 0.02 * slope, HIGH)
        np.testing.assert_allclose(sigmas(model), expected, rtol=1e-5)
        if np.isfinite(outputs).all():
            assert np.isfinite(model.get_weights()[0]).all()


def test_sigma_never_leaves_its_bounds():
    x, y = data()
    model = compiled(
        data_dependent(learning_rate=100.0),
        steep,
        run_eagerly=True,
    )
    met = set()
    for _ in range(5):
        model.train_on_batch(indexed(x), y)
        met |= set(sigmas(model))
    assert met == {np.float32(LOW), np.float32(HIGH)}


@pytest.mark.parametrize(
    "start,sigma,expected",
    [
        (None, 0.3, 0.3),
        (None, 0.01, LOW),
        (None, 7.0, HIGH),
        (0.5, 0.3, 0.5),
    ],
)
def test_where_sigma_starts(start, sigma, expected):
    model = compiled(
        data_dependent(sigma_start=start), noise=ks.noise.Gaussian(sigma)
    )
    np.testing.assert_array_equal(
        sigmas(model), np.full(EXAMPLES, expected, "float32")
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains(name):
    x, y = data()
    model = compiled(
        data_dependent(name), optimizer=keras.optimizers.Adam(0.05)
    )
    history = model.fit(x, y, batch_size=6, epochs=20, verbose=0).history
    assert set(history) == {"loss", "sigma", *OBJECTIVES[name]().terms}
    for values in history.values():
        assert np.isfinite(values).all()
    loss = history.get("classification_loss", history["loss"])
    assert np.mean(loss[-5:]) < 0.95 * np.mean(loss[:5])
    found = sigmas(model)
    assert (found != np.float32(SIGMA)).all()
    assert (found >= np.float32(LOW)).all() and (
        found <= np.float32(HIGH)
    ).all()


def test_one_seed_gives_one_result_eagerly_too():
    x, y = data()
    found = []
    for eagerly in (False, False, True):
        model = compiled(data_dependent(steps=2), run_eagerly=eagerly)
        model.fit(x, y, batch_size=5, epochs=2, verbose=0)
        found.append([sigmas(model), *model.get_weights()])
    for graph, again, eager in zip(*found, strict=True):
        np.testing.assert_array_equal(graph, again)
        np.testing.assert_allclose(graph, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    x, y = data()
    found = []
    for current in ("float32", policy):
        keras.mixed_precision.set_global_policy(current)
        model = compiled(base=steep, run_eagerly=True)
        model.train_on_batch(indexed(x), y)
        assert model.objective_state.sigma.dtype == "float32"
        found.append(sigmas(model) - np.float32(SIGMA))
    np.testing.assert_allclose(*found, atol=0.1 * np.abs(found[0]).max())


def test_sigmas_move_while_gradients_are_accumulated():
    x, y = data()
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        run_eagerly=True,
    )
    weights = model.get_weights()[0]
    seen = [sigmas(model)]
    for _ in range(2):
        np.testing.assert_array_equal(model.get_weights()[0], weights)
        model.train_on_batch(indexed(x), y)
        seen.append(sigmas(model))
        assert (seen[-1] != seen[-2]).all()
    assert (model.get_weights()[0] != weights).all()


def test_examples_of_no_weight_play_no_part():
    x, y = data()
    weight = np.array([1, 1, 0] * 4, "float32")
    other = x.copy()
    other[2::3] = 1 - other[2::3]
    results = []
    for inputs in (x, other):
        model = compiled(run_eagerly=True)
        model.fit(inputs, y, sample_weight=weight, shuffle=False, verbose=0)
        results.append((model.get_weights()[0], sigmas(model)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    same = np.isclose(results[0][1], results[1][1], rtol=1e-6)
    np.testing.assert_array_equal(same, weight > 0)


def test_groups():
    x = np.random.default_rng(0).uniform(size=(EXAMPLES, 3, 3, 1))
    base = keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    model = ks.SmoothedModel(
        base, ks.noise.Gaussian(SIGMA), group=ks.groups.D4("channels_last")
    )
    model.compile(
        "sgd", logits_loss(), objective=data_dependent(), run_eagerly=True
    )
    model.fit(x.astype("float32"), np.arange(EXAMPLES) % CLASSES, verbose=0)
    assert (sigmas(model) != np.float32(SIGMA)).all()


def test_xla():
    x, y = data()
    model = compiled()
    model.supports_jit = True
    model.compile(
        "sgd", logits_loss(), objective=model.objective, jit_compile=True
    )
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"] + history["sigma"]).all()
    assert (sigmas(model) != np.float32(SIGMA)).all()
    # XLA takes the nearest there is, which must not go unnoticed.
    for first in (-1, 1):
        beyond = numbered(x, y, first).batch(EXAMPLES)
        history = model.fit(beyond, shuffle=False, verbose=0).history
        assert np.isnan(history["sigma"] + history["loss"]).all()


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("first", [-1, 1])
def test_an_index_of_a_dataset_that_is_out_of_range_raises(run_eagerly, first):
    x, y = data()
    model = compiled(run_eagerly=run_eagerly)
    dataset = numbered(x, y, first).batch(EXAMPLES)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"Expected `index` from 0 to 11. Received: index from",
    ):
        model.fit(dataset, shuffle=False, verbose=0)
    np.testing.assert_array_equal(sigmas(model), np.float32(SIGMA))


def test_examples_without_a_valid_index_are_refused():
    x, y = data()
    form = r'Expected x in the form .*"index".*Received: '
    for given, message in (
        (x[:-1], r"num_examples=12.*Received: x of shape \(11, 4\)"),
        (indexed(x, np.arange(12) + 1), "`index` from 0 to 11.*from 1 to 12"),
        (indexed(x, np.arange(12) - 1), "`index` from 0 to 11.*from -1 to 10"),
        (indexed(x, np.arange(12.0)), f"{form}index="),
        (indexed(x, np.arange(12)[:, np.newaxis]), f"{form}index="),
        (indexed(x, list(range(12))), f"{form}index="),
        ({"image": x}, f"{form}x with the keys"),
    ):
        with pytest.raises(ValueError, match=message):
            compiled().fit(given, y, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    with pytest.raises(ValueError, match=f"{form}x of type"):
        compiled().fit(dataset, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=f"{form}x of type"):
        compiled().train_on_batch(x, y)


class OfOnesOwn(ks.noise.Noise):
    stddev = 1.0

    def sample(self, shape, seed):
        return keras.random.normal(shape, seed=seed)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: data_dependent(data_dependent()), "keeps nothing for each"),
        (lambda: data_dependent(keras.losses.MeanSquaredError()), "`objecti"),
        (lambda: data_dependent(sigma_start=0.7), "sigma_start <= sigma_max"),
        (lambda: data_dependent(sigma_start=-1.0), "`sigma_start`.*> 0"),
        (lambda: data_dependent(steps=0), "`steps`.*>= 1"),
        (lambda: data_dependent(num_draws=0), "`num_draws`.*>= 1"),
        (lambda: data_dependent(learning_rate=0.0), "`learning_rate`.*> 0"),
        (
            lambda: ks.training.DataDependent(
                OBJECTIVES["gaussian"](), 0, LOW, HIGH
            ),
            "`num_examples`.*>= 1",
        ),
        (
            lambda: ks.training.DataDependent(
                OBJECTIVES["gaussian"](), 3, HIGH, LOW
            ),
            "sigma_min < sigma_max",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()


def test_models_that_cannot_be_trained_so_are_refused():
    x, y = data()
    tfp = pytest.importorskip("tensorflow_probability")
    unknown = ks.noise.Distribution(tfp.distributions.Normal([0.0] * 4, 1.0))
    uniform, own = ks.noise.Uniform(0.5), OfOnesOwn()
    for objective, noise, activation, kind, message in (
        ("gaussian", unknown, None, ValueError, "No radius formula"),
        ("gaussian", own, None, TypeError, "does not define `soft_radius`"),
        ("macer", uniform, None, ValueError, "Expected Gaussian noise"),
        ("gaussian", uniform, "softmax", ValueError, "logits.* DataDependent"),
    ):
        model = compiled(
            data_dependent(objective),
            lambda activation=activation: base_model(activation=activation),
            noise,
        )
        with pytest.raises(kind, match=message):
            model.fit(x, y, verbose=0)


def test_several_devices_are_refused(monkeypatch):
    monkeypatch.setattr(ks.backend, "num_replicas", lambda: 2)
    with pytest.raises(ValueError, match="Expected one device.*Received: 2"):
        compiled()


def test_a_strategy_of_one_device():
    x, y = data()
    expected = compiled()
    expected.fit(x, y, shuffle=False, verbose=0)
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = compiled()
        model.fit(x, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(
        model.objective_state.sigma, expected.objective_state.sigma
    )


def test_it_prints_as_it_is_written():
    assert str(data_dependent("stability")).startswith(
        "DataDependent(objective=Stability(gamma=1.0), num_examples=12, "
        "sigma_min=0.1, sigma_max=0.6, sigma_start=None, "
    )


def test_a_gradient_that_is_nan_stops_no_sigma():
    # ReLU sets all four numbers of some noisy copies to 0.
    model = compiled(
        data_dependent(num_draws=32),
        lambda: base_model(keras.layers.ReLU(), RootNorm(), stddev=3.0),
    )
    x, y = np.zeros((EXAMPLES, 4), "float32"), data()[1]
    model.train_on_batch(indexed(x), y)
    assert (sigmas(model) != SIGMA).all()
