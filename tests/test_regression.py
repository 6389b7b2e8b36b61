"""Certified intervals of regressions: oracles, attacks, logs, bad input."""

import json
import pickle
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_convnet
from keras import ops

import keras_smoothing as ks
from keras_smoothing.certificates import MedianClaim
from keras_smoothing.certificates import tiles
from keras_smoothing.certify import Intervals
from keras_smoothing.certify import intervals
from keras_smoothing.certify.on_cluster import FarTask
from keras_smoothing.logs import fingerprint
from keras_smoothing.sampling.noise_blocks import draw_tiles

SETTINGS = dict(radii=[0.0, 0.25], n=400, alpha=0.01, seed=0, verbose=0)
ENDS = ("prediction", "lower", "upper")


def linear(weights, bias=0.0):
    """Answers with `x @ weights + bias`."""
    weights = np.asarray(weights, "float32")
    model = keras.Sequential(
        [keras.Input(weights.shape[:1]), keras.layers.Dense(weights.shape[1])]
    )
    model.set_weights([weights, np.full(weights.shape[1], bias, "float32")])
    return model


def network(outputs=2, features=4):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(outputs, kernel_initializer="glorot_normal"),
        ]
    )


def smoothed(base, noise=None, **arguments):
    noise = ks.noise.Gaussian(0.5) if noise is None else noise
    return ks.SmoothedRegression(base, noise, **arguments)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    """Rounds nothing, so that every order of summation is the same."""

    def call(self, x):
        return 2 * x


def exact(features=3, **arguments):
    return smoothed(
        keras.Sequential([keras.Input((features,)), Doubled()]), **arguments
    )


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


def assert_equal_intervals(one, other, names=ENDS):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# In l1 the answer is tight where one coordinate decides.
DENSE = np.random.default_rng(1).normal(size=(4, 2))
SPARSE = np.array([[2.0, 0.0], [0.0, -0.5], [0.0, 0.0], [0.0, 0.0]])
ORACLES = [
    (ks.noise.Gaussian(0.5), DENSE, [0.0, 0.2, 0.6]),
    (ks.noise.Laplace(0.5), SPARSE, [0.0, 0.2, 0.6]),
    (ks.noise.Uniform(1.0), SPARSE, [0.0, 0.2, 0.6]),
]


@pytest.mark.parametrize("noise, weights, radii", ORACLES, ids=str)
def test_the_interval_of_a_linear_map_is_known(noise, weights, radii, x):
    # Its median at x is x @ w, and moves by the dual norm of w.
    model = smoothed(linear(weights, bias=0.3), noise)
    reach = np.linalg.norm(weights, axis=0)[np.newaxis, np.newaxis]
    reach = reach * np.array(radii)[:, np.newaxis]
    true = (x @ weights + 0.3)[:, np.newaxis]
    excesses = []
    for n in (1_000, 40_000):
        result = model.certify(x, radii=radii, n=n, seed=0, verbose=0)
        above = result.upper - (true + reach)
        below = (true - reach) - result.lower
        assert (above >= 0).all() and (below >= 0).all()
        excesses.append(max(above.max(), below.max()))
    unit = noise.stddev * np.linalg.norm(weights, axis=0).max()
    assert excesses[1] < 0.3 * excesses[0]
    assert excesses[1] < 0.08 * unit


def test_the_worst_direction_reaches_no_further():
    # Medians, estimated anew where a linear map changes the most.
    model = smoothed(linear(DENSE))
    x = np.zeros((1, 4), "float32")
    result = model.certify(x, radii=0.4, n=20_000, seed=0, verbose=0)
    lower, upper = result.at(0.4)
    for c in range(2):
        step = 0.4 * DENSE[:, c] / np.linalg.norm(DENSE[:, c])
        for sign, end in ((1, upper), (-1, lower)):
            moved = (x + sign * step).astype("float32")
            there = model.certify(moved, radii=0.0, n=50_000, seed=1, verbose=0)
            assert lower[0, c] < there.prediction[0, c] < upper[0, c]
            assert abs(there.prediction[0, c] - end[0, c]) < 0.06


def test_an_attack_inside_the_ball_stays_inside_the_interval(x):
    model, radius = smoothed(network()), 0.5
    x = x[:4]
    result = model.certify(x, radii=radius, n=5_000, seed=0, verbose=0)
    lower, upper = result.at(radius)
    moves = 0.0
    for c in range(2):
        for sign in (-1, 1):
            moved = attacked(model, x, sign, c, 0.999 * radius)
            there = model.certify(moved, radii=0.0, n=20_000, seed=1, verbose=0)
            # What is proved of the attacked point must agree with it.
            assert (there.lower[:, 0] <= upper).all()
            assert (there.upper[:, 0] >= lower).all()
            median = there.prediction
            assert ((lower < median) & (median < upper)).all()
            moves = max(moves, np.abs(median - result.prediction).max())
    assert moves > 0.3 * (upper - lower).min() / 2


def attacked(model, x, sign, coordinate, radius):
    """Ascends the mean output under noise, within an l2 ball."""
    noise = model.noise.sample((1, 200, 4), seed=5)
    start, moved = ops.convert_to_tensor(x), ops.convert_to_tensor(x)
    for _ in range(20):
        with tf.GradientTape() as tape:
            tape.watch(moved)
            noisy = ops.reshape(ops.expand_dims(moved, 1) + noise, (-1, 4))
            value = sign * ops.sum(model.base_model(noisy)[:, coordinate])
        gradient = tape.gradient(value, moved)
        step = moved - start + gradient / ops.norm(gradient, axis=1)[:, None]
        length = ops.norm(step, axis=1)[:, None]
        moved = start + step * ops.minimum(1.0, radius / length)
    return np.array(moved)


@pytest.mark.parametrize("batch_size", [1, 37, 5_000])
def test_intervals_do_not_depend_on_batches_or_their_order(batch_size):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    expected = exact().certify(x, **SETTINGS)
    result = exact().certify(x[::-1], **SETTINGS, batch_size=batch_size)
    assert_equal_intervals(result[::-1], expected)
    other = exact().certify(x, **{**SETTINGS, "seed": 1})
    assert (other.lower != expected.lower).any()


@pytest.mark.parametrize("batch_size", [64, 700, 5_000])
def test_each_draw_is_that_of_its_number(batch_size):
    # 2_500 end in the middle of a tile, and of a batch.
    model, x = exact(), np.ones((2, 3), "float32")
    sampler, num_tiles = model._sampler(), 5
    seeds = tiles.tile_seeds(3, tiles.ESTIMATION, 0, num_tiles)
    drawn = draw_tiles(ops.convert_to_tensor(seeds), (3,), model.noise, None)
    expected = 2 * (x[:, np.newaxis] + np.array(drawn.noise))
    settings = dict(seed=3, batch_size=batch_size)
    outputs = sampler.collect(x, num_draws=2_500, **settings)
    np.testing.assert_array_equal(outputs, expected[:, :2_500])
    settings.update(stream=tiles.ESTIMATION, start=1_100, stop=4_700)
    found = [block["outputs"] for block in sampler.blocks(x, **settings)]
    found = np.concatenate(found, axis=1)
    np.testing.assert_array_equal(found, expected[:, 1_100:4_700])


def test_little_memory_gives_the_same_intervals(monkeypatch, x):
    expected = exact(4).certify(x, **SETTINGS)
    monkeypatch.setattr(intervals, "_BYTES", 3 * 400 * 4 * 8)
    assert intervals.fitting((4,), 400) == 3
    assert_equal_intervals(exact(4).certify(x, **SETTINGS), expected)


def test_a_saved_model_gives_the_same_intervals(tmp_path, x):
    model = smoothed(network(), ks.noise.Laplace(0.3), num_draws=7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is ks.SmoothedRegression
    one, other = (m.certify(x, **SETTINGS) for m in (model, loaded))
    assert_equal_intervals(one, other)
    assert repr(one) == repr(other) and "Laplace" in repr(one)


def rows_without_time(path):
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    at = rows[0].index("time")
    return [row[:at] + row[at + 1 :] for row in rows]


def test_a_log_is_resumed_and_read(tmp_path, x):
    model, y = smoothed(network()), x[:, :2].astype("float64")
    settings = {**SETTINGS, "seed": None}
    path = tmp_path / "run.tsv"
    whole = model.certify(x, y, **settings, log=path)
    expected = rows_without_time(path)
    # Cut off in the middle of a row, as by a kill.
    path.write_bytes(path.read_bytes()[:-300])
    assert len(path.read_text().splitlines()) < 22
    resumed = model.certify(x, y, **settings, log=path)
    assert resumed.seed == whole.seed
    for result in (resumed, ks.read_log(path)):
        assert_equal_intervals(result, whole, [*ENDS, "label", "num_samples"])
        assert result.statement == whole.statement
        assert type(result) is ks.IntervalResult
        np.testing.assert_array_equal(result.index, np.arange(len(whole)))
    assert rows_without_time(path) == expected
    for change, message in (
        (dict(n=401), "n=401"),
        (dict(alpha=0.02), "alpha=0.02"),
        (dict(radii=[0.0, 0.3]), "radii"),
        (dict(correction=None), "correction=None"),
        (dict(seed=1), "seed=1"),
    ):
        with pytest.raises(ValueError, match=f"another run.*{message}"):
            model.certify(x, y, **{**settings, **change}, log=path)
    with pytest.raises(ValueError, match="Expected label"):
        model.certify(x, y + 1, **settings, log=path)
    with pytest.raises(ValueError, match="Expected label"):
        model.certify(x, None, **settings, log=path)


def test_damaged_logs_are_refused(tmp_path, x):
    path = tmp_path / "run.tsv"
    smoothed(network()).certify(x[:3], x[:3, :2], **SETTINGS, log=path)
    good, sidecar = path.read_text(), tmp_path / "run.tsv.json"
    heading, first, *rest = good.splitlines()
    cells, names = first.split("\t"), heading.split("\t")

    def refused(column, text):
        changed = list(cells)
        changed[names.index(column)] = text
        lines = [heading, "\t".join(changed), *rest]
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(ValueError, match="Expected .*Received"):
            ks.read_log(path)

    lower, upper = (cells[names.index(name)] for name in ("lower", "upper"))
    refused("lower", upper)  # An interval that ends before it begins.
    refused("upper", lower)
    refused("upper", upper[:-9])
    for time in ("nan", "-1", "1_0.5"):
        refused("time", time)
    refused("upper", upper[:40] + "A" + upper[41:])
    refused("upper", cells[names.index("prediction")])
    refused("prediction", "-")
    refused("label", upper)
    refused("num_samples", "399")
    refused("nan_draws", "-1")
    refused("bounded", "0.5")
    refused("idx", "1")
    path.write_text(good)
    settings = json.loads(sidecar.read_text())
    for change in (
        dict(answers=[3]),
        dict(answers=None),
        dict(radii=[0.0, 0.25, 0.5]),
        dict(radii=[0.25, 0.0]),
        dict(n=399),
        dict(alpha=0.0),
        dict(correction="none"),
        # Which no number in a row depends on.
        dict(alpha=0.02),
        dict(noise=keras.saving.serialize_keras_object(ks.noise.Gaussian(9))),
    ):
        sidecar.write_text(json.dumps({**settings, **change}))
        with pytest.raises(ValueError, match="Expected .*Received"):
            ks.read_log(path)
    sidecar.write_text(json.dumps(settings))
    assert len(ks.read_log(path)) == 3


def test_family_wise_shares_alpha_out(x):
    model = smoothed(linear(DENSE))
    settings = {**SETTINGS, "n": 2_000}
    together = model.certify(x, **settings, family_wise=True)
    each = model.certify(x, **{**settings, "alpha": 0.01 / 20})
    assert together.alpha == 0.01 / 20
    assert_equal_intervals(together, each)
    alone = model.certify(x, **settings, correction=None)
    half = model.certify(x, **{**settings, "alpha": 0.02})
    assert_equal_intervals(alone, half)  # Two coordinates.
    narrower = alone.width < together.width
    assert narrower.all()
    batches = tf.data.Dataset.from_tensor_slices(x).batch(3)
    batches = batches.filter(lambda _: True)
    with pytest.raises(ValueError, match="known number.*not batched may.$"):
        model.certify(batches, **settings, family_wise=True)


def test_datasets_bring_labels(x):
    model, y = smoothed(network()), x[:, :2]
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    result = model.certify(batches, **SETTINGS)
    np.testing.assert_array_equal(result.label, y)
    assert_equal_intervals(result, model.certify(x, y, **SETTINGS))
    one = smoothed(network(1)).certify(x, y[:, 0].astype(int), **SETTINGS)
    np.testing.assert_array_equal(one.label, y[:, :1].astype(int))


def test_under_a_group_intervals_are_of_all_rearrangements():
    keras.utils.set_random_seed(0)
    group = ks.groups.HorizontalFlip("channels_last")
    model = smoothed(small_convnet((8, 8, 1)), group=group)
    x = np.random.default_rng(0).random((3, 8, 8, 1)).astype("float32")
    result, flipped = (
        model.certify(images, **{**SETTINGS, "n": 4_000})
        for images in (x, x[:, :, ::-1])
    )
    # Other draws of one law: all of what is proved holds for both.
    assert (result.lower[:, 0] <= flipped.upper[:, 0]).all()
    assert (flipped.lower[:, 0] <= result.upper[:, 0]).all()
    plain, other = (
        smoothed(model.base_model).certify(images, **{**SETTINGS, "n": 4_000})
        for images in (x, x[:, :, ::-1])
    )
    assert (plain.lower[:, 0] > other.upper[:, 0]).any()
    assert "l2 up to HorizontalFlip" in result.statement
    assert model.predict(x, verbose=0).shape == (3, 10)


class NanBelow(keras.layers.Layer):
    """NaN where the first number is below -0.5."""

    def call(self, x):
        return ops.where(x[:, :1] < -0.5, float("nan"), x)


def test_nan_widens_intervals_up_to_infinity():
    model = smoothed(keras.Sequential([keras.Input((2,)), NanBelow()]))
    x = np.array([[3.0, 0.0], [0.0, 0.0], [-2.0, 0.0]], "float32")
    settings = {**SETTINGS, "n": 2_000, "check_independence": False}
    with pytest.warns(UserWarning, match=r"NaN.*\[1 2\]") as caught:
        result = model.certify(x, **settings)
    assert caught[0].filename == __file__
    plain = exact(2).certify(x, **settings)
    assert result.nan_draws[0] == 0 and 200 < result.nan_draws[1] < 500
    np.testing.assert_array_equal(result.lower[0], plain.lower[0] / 2)
    np.testing.assert_array_equal(result.upper[0], plain.upper[0] / 2)
    # A sixth of the draws may be anything: at a radius of half a sigma it no
    # longer leaves a lower end, and the second coordinate's are wider.
    assert (result.lower[1] <= plain.lower[1] / 2).all()
    assert (result.upper[1] >= plain.upper[1] / 2).all()
    assert result.width[1, 0, 1] > 2 * result.width[0, 0, 1]
    assert (result.lower[2] == -np.inf).all()
    assert (result.upper[2] == np.inf).all()
    with pytest.warns(UserWarning, match="NaN"):
        result = model.certify(x, np.zeros((3, 2)), **settings)
    assert (result.certified_error(0.0)[2] == np.inf).all()
    assert result.certified_accuracy(0.0, tolerance=1e9) == pytest.approx(2 / 3)
    result.summary(print_fn=lambda text: None)


def test_infinite_outputs_are_numbers():
    class Log(keras.layers.Layer):
        def call(self, x):
            return ops.log(ops.maximum(x, 0.0))

    model = smoothed(keras.Sequential([keras.Input((1,)), Log()]))
    x = np.array([[-3.0], [0.0], [3.0]], "float32")
    result = model.certify(x, **{**SETTINGS, "n": 2_000})
    assert (result.upper[0] == -np.inf).all()
    assert (result.lower[1] == -np.inf).all()
    assert np.isfinite(result.upper[1]).all()
    np.testing.assert_array_equal(result.bounded[:, 0, 0], [False, False, True])
    assert (result.width[0] == 0).all()


def test_radii_that_so_few_draws_do_not_reach(monkeypatch):
    model, x = exact(), np.zeros((1, 3), "float32")
    plan = model.plan(500, 0.01, [0.0, 0.5, 1.5])
    # Measured once.
    monkeypatch.setattr(
        sys.modules["keras_smoothing.certify.plan"],
        "seconds_per_copy",
        lambda draw, examples, batch_size: 1.0,
    )
    assert plan.finite == (True, True, False)
    assert plan.shares[0][0] == pytest.approx(1 - plan.shares[0][1])
    text = str(plan)
    assert "1.5: infinite" in text and f"n={plan.smallest_n[2]:,.0f}" in text
    assert plan.draws == 500 and plan.seconds > 0
    settings = dict(alpha=0.01, seed=0, verbose=0)
    needed = int(plan.smallest_n[2])
    with pytest.warns(UserWarning, match=f"n >= {needed} at") as caught:
        result = model.certify(x, radii=[0.0, 0.5, 1.5], n=500, **settings)
    assert caught[0].filename == __file__
    assert result.bounded[0, :2].all() and not result.bounded[0, 2].any()
    with pytest.raises(ValueError, match=f"Expected n >= {needed} at"):
        model.certify(x, radii=1.5, n=needed - 1, **settings)
    result = model.certify(x, radii=1.5, n=needed, **settings)
    assert result.bounded.all()
    never = exact(noise=ks.noise.Uniform(0.5))
    assert not any(never.plan(500, 0.01, 0.5).finite)
    with pytest.raises(ValueError, match="Expected another radius"):
        never.certify(x, radii=0.5, **settings)
    few = model.plan(500, 0.01, 0.5, family_wise=True, num_examples=10)
    each = model.plan(500, 0.001, 0.5)
    assert few.smallest_n == each.smallest_n and few.draws == 5_000


def test_what_a_result_says(x):
    model = smoothed(linear(DENSE))
    y = x @ DENSE
    settings = {**SETTINGS, "n": 2_000, "radii": [0.1, 0.5]}
    result = model.certify(x, y, **settings)
    lower, upper = result.at(0.1)
    np.testing.assert_array_equal(lower, result.lower[:, 0])
    # What holds in the larger ball holds in the smaller one.
    np.testing.assert_array_equal(result.at(0.2)[1], result.upper[:, 1])
    np.testing.assert_array_equal(result.at(0.0)[1], result.upper[:, 0])
    for radius in (-0.1, 0.51, np.nan):
        with pytest.raises(ValueError, match=r"Expected a radius in \[0, 0.5"):
            result.at(radius)
    error = result.certified_error(0.1)
    np.testing.assert_array_equal(error, np.maximum(upper - y, y - lower))
    assert result.certified_accuracy(0.1, error.max()) == 1.0
    shares = result.certified_accuracy([0.1, 0.5], np.median(error))
    assert shares[0] == 0.5 and shares[1] < 0.5
    with pytest.raises(ValueError, match="tolerance >= 0"):
        result.certified_accuracy(0.1, -1.0)
    some = result[[3, 5]]
    assert len(some) == 2 and len(result[4]) == 1
    np.testing.assert_array_equal(some.upper, result.upper[[3, 5]])
    np.testing.assert_array_equal(some.label, y[[3, 5]])
    np.testing.assert_array_equal(some.index, [3, 5])
    assert some.family == 20 and "shared by the 20" in some.statement
    with pytest.raises(IndexError):
        result[np.zeros((2, 2), int)]
    lines = []
    result.summary(print_fn=lines.append)
    assert "20 examples" in lines[0] and "median error" in lines[0]
    assert result.statement in lines[0]
    ax = result.plot()
    assert ax.get_xlabel() == "l2 radius" and len(ax.lines) == 2
    assert result.nan_draws.sum() == 0
    assert result.prediction.shape == (20, 2)
    unlabelled = model.certify(x, **settings)
    assert unlabelled.label is None and unlabelled[:2].label is None
    with pytest.raises(ValueError, match="Expected a result with labels"):
        unlabelled.certified_error(0.1)


@pytest.mark.slow
def test_training_and_prediction(x):
    keras.utils.set_random_seed(0)
    model = smoothed(linear(0 * DENSE), ks.noise.Gaussian(0.1), seed=0)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    y = x @ DENSE
    first = model.evaluate(x, y, verbose=0)[0]
    model.fit(x, y, epochs=40, verbose=0)
    assert model.evaluate(x, y, verbose=0)[0] < 0.3 * first
    many = smoothed(model.base_model, num_draws=1_001, seed=0)
    medians = many.predict(x, verbose=0)
    expected = many.certify(x, radii=0.0, verbose=0, seed=0)
    assert (expected.lower[:, 0] - 0.1 <= medians).all()
    assert (medians <= expected.upper[:, 0] + 0.1).all()
    # A median is not the mean of what is skewed.
    skewed = keras.Sequential(
        [linear([[3.0]]), keras.layers.Activation("exponential")]
    )
    skewed = smoothed(skewed, num_draws=1_001, seed=0)
    median = skewed.predict(np.zeros((1, 1), "float32"), verbose=0)
    np.testing.assert_allclose(median, 1.0, atol=0.3)


def test_samplers_are_sent_to_workers_and_back(x):
    model = smoothed(network())
    claim = MedianClaim(model.noise, 0.01, 400, (0.0, 0.25))
    known = fingerprint(model.base_model)
    far = FarTask(Intervals(model._sampler(), claim, seed=0, model=known))
    there = pickle.loads(pickle.dumps(far))
    window = (x, [None] * 20, np.arange(20), np.zeros(20))
    records, _, caught = there(*window)
    expected = model.certify(x, **SETTINGS)
    np.testing.assert_array_equal([r.upper for r in records], expected.upper)
    assert caught == []


def integers():
    inputs = keras.Input((4,))
    return keras.Model(inputs, ops.cast(inputs, "int32"))


def two_outputs():
    inputs = keras.Input((4,))
    outputs = keras.layers.Identity()(inputs)
    return keras.Model(inputs, [outputs, outputs])


@pytest.mark.parametrize(
    "base, message",
    [
        (integers, "real numbers.*int32"),
        (two_outputs, "the one that is the answer"),
        (lambda: keras.Sequential([keras.Input((4,)), Sums()]), "one output"),
        (lambda: smoothed(network()), "not smoothed yet"),
    ],
)
def test_base_models_that_return_no_numbers(base, message):
    with pytest.raises(ValueError, match=message):
        smoothed(base())


class Sums(keras.layers.Layer):
    def call(self, x):
        return ops.sum(x, axis=1)


def test_base_models_that_mix_examples(x):
    class Centred(keras.layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0)

    model = smoothed(keras.Sequential([keras.Input((4,)), Centred()]))
    with pytest.raises(ValueError, match="what else is in the batch"):
        model.certify(x, **SETTINGS)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(radii=[-0.1]), "radii"),
        (dict(radii=[0.2, 0.1]), "increasing"),
        (dict(n=3), "Expected n >= 9 at"),
        (dict(n=0), "an integer >= 1"),
        (dict(alpha=1.5), "alpha"),
        (dict(correction="holm"), "correction"),
        (dict(batch_size=0), "batch_size"),
        (dict(verbose=3), "verbose"),
        (dict(y=np.zeros((20, 3))), r"shape of an answer, \(2,\)"),
        (dict(y=np.zeros(20)), r"shape of an answer, \(2,\)"),
        (dict(y=np.zeros((19, 2))), "as many labels as examples"),
        (dict(y=np.full((20, 2), np.nan)), "finite numbers"),
        (dict(y=np.full((20, 2), "a")), "finite numbers.*dtype"),
        (dict(x=np.zeros((2, 4), int)), "floating type"),
        (dict(x=np.full((2, 4), np.inf, "float32")), "finite values"),
        (dict(x=np.zeros((2, 5), "float32")), "of shape"),
    ],
)
def test_bad_requests(change, message, x):
    arguments = {"x": x, **SETTINGS, **change}
    with pytest.raises(ValueError, match=message):
        smoothed(network()).certify(**arguments)


def test_noise_without_a_formula(x):
    import tensorflow_probability as tfp

    noise = ks.noise.Distribution(tfp.distributions.Cauchy(0.0, 1.0))
    with pytest.raises(ValueError, match="No radius formula"):
        smoothed(network(), noise).certify(x, **SETTINGS)


def test_labels_of_one_shape():
    batches = [
        (np.zeros((2, 3), "float32"), np.zeros((2, size))) for size in (3, 1)
    ]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=(
            tf.TensorSpec((None, 3), "float32"),
            tf.TensorSpec((None, None), "float64"),
        ),
    )
    with pytest.raises(ValueError, match="Expected labels of one shape"):
        exact().certify(dataset, **SETTINGS)


def test_intervals_are_around_the_input_as_it_was_given(tmp_path):
    # The median of a linear map is its value, which the rounding moves.
    far, sigma = 8_200.0, 0.51
    base = keras.Sequential(
        [
            keras.Input((4_096,)),
            keras.layers.Rescaling(1.0, offset=-far),
            keras.layers.Dense(1, kernel_initializer="ones", use_bias=False),
        ]
    )
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(sigma))
    x = np.full((2, 4_096), far + 0.000489)
    x[1] = far
    settings = dict(n=1_000, alpha=0.05, radii=[0.0, 0.1], seed=0, verbose=0)
    path = tmp_path / "run.tsv"
    result = model.certify(x, log=path, **settings)
    plain = model.certify(x.astype("float32"), **settings)
    assert result.rounding[0] > 0.03 and result.rounding[1] == 0
    assert (result.lower[0] < plain.lower[0]).all()
    assert (result.upper[0] > plain.upper[0]).all()
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(
            getattr(result, name)[1], getattr(plain, name)[1]
        )
    read = ks.read_log(path)
    np.testing.assert_array_equal(read.rounding, result.rounding)
    with pytest.raises(ValueError, match="of other examples.*rounding"):
        model.certify(x.astype("float32"), log=path, **settings)
