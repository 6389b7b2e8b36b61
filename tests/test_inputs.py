"""Every form of good input, and what is said of bad input."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import linear_model
from conftest import smoothed
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certificates.examples import rounding_distance
from keras_smoothing.certificates.votes import majority
from keras_smoothing.certify import Classification
from keras_smoothing.certify import Dataset
from keras_smoothing.certify import run
from keras_smoothing.sampling import VoteSampler

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return smoothed(
        keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.random((50, *SHAPE)).astype("float32")
    return x, rng.integers(0, 3, 50)


def certify(model, x, y=None, **arguments):
    settings = dict(n=200, alpha=0.01, seed=0, verbose=0)
    return model.certify(x, y, **{**settings, **arguments})


def test_every_form_of_input_gives_the_same_certificates(model, data):
    x, y = data
    expected = certify(model, x, y)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    forms = {
        "float64": (x.astype("float64"), y),
        "tensors": (tf.constant(x), tf.constant(y)),
        "lists": (x.tolist(), y.tolist()),
        "column of labels": (x, y[:, np.newaxis]),
        "one-hot": (x, np.eye(3)[y]),
        "unbatched": (dataset, None),
        "batched": (dataset.batch(7), None),
        "even batches": (dataset.batch(10, drop_remainder=True), None),
        "one-hot dataset": (
            dataset.map(lambda x, y: (x, tf.one_hot(y, 3))).batch(9),
            None,
        ),
        "generator": (
            tf.data.Dataset.from_generator(
                lambda: zip(x, y, strict=True),
                output_signature=dataset.element_spec,
            ),
            None,
        ),
    }
    for name, (form, labels) in forms.items():
        result = certify(model, form, labels)
        np.testing.assert_array_equal(result.counts, expected.counts, name)
        np.testing.assert_array_equal(result.label, y, name)
    for form in (x, tf.data.Dataset.from_tensor_slices(x).batch(7)):
        result = certify(model, form)
        np.testing.assert_array_equal(result.counts, expected.counts)
        assert result.label is None
    np.testing.assert_array_equal(
        model.classify(x, seed=0), model.classify(dataset, seed=0)
    )


def test_a_dataset_is_read_as_it_is_used(model):
    read = []

    def examples():
        for i in range(100):
            read.append(i)
            yield np.full(SHAPE, i / 100, "float32")

    dataset = tf.data.Dataset.from_generator(
        examples, output_signature=tf.TensorSpec(SHAPE)
    )
    seen = []

    class Watching(VoteSampler):
        def count(self, x, **arguments):
            seen.append((len(read), len(x)))
            return super().count(x, **arguments)

    task = Classification(
        Watching(model.base_model, model.noise),
        Claim(model.noise, 0.01, ks.FixedSampling(200)),
        n0=10,
        batch_size=16,
        seed=0,
    )
    run(task, Dataset(dataset, shape=SHAPE), verbose=0)
    # Before the first window is counted, little more than it is read.
    assert seen[0][0] <= 48 and seen[0][1] == 16
    assert len(read) == 100


def test_models_of_any_image_size():
    model = smoothed(
        keras.Sequential(
            [
                keras.Input((None, None, 1)),
                keras.layers.Conv2D(3, 3),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
    )
    for size in (5, 8):
        assert len(certify(model, np.zeros((2, size, size, 1), "float32"))) == 2


def bad_x(value):
    x = np.zeros((3, *SHAPE), "float32")
    x[1, 2, 2, 0] = value
    return x


GOOD = np.zeros((3, *SHAPE), "float32")


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(x=bad_x(np.nan)), "NaN or infinity in example 1"),
        (dict(x=bad_x(-np.inf)), "NaN or infinity in example 1"),
        (dict(x=bad_x(1).astype("float64") * 1e300), "infinity in example 1"),
        (dict(x=bad_x(1e4)), "float32 resolves the noise. .* 1e.04"),
        (dict(x=GOOD.astype("uint8")), "Received: dtype uint8"),
        (dict(x=GOOD.astype("int64")), "Received: dtype int64"),
        (dict(x=GOOD[0]), r"\(examples, 4, 4, 1\). Received: shape \(4, 4, 1"),
        (dict(x=GOOD[:, :3]), r"Received: shape \(3, 3, 4, 1\)"),
        (dict(x=GOOD[:0]), "at least one example"),
        (dict(x=object()), "Received: x of type .*object"),
        (dict(y=[0, 1]), r"x of shape \(3, 4, 4, 1\) and y of shape \(2,\)"),
        (dict(y=1), r"y of shape \(\)"),
        (
            dict(x=np.tile(GOOD, (20, 1, 1, 1)), y=[0] * 59 + [3]),
            r"Received: y\[59\]=3",
        ),
        (dict(y=[0, 1, 3]), r"from 0 to 2, for 3 classes. Received: y\[2\]=3"),
        (dict(y=[0, 1, -1]), r"from 0 to 2.* y\[2\]=-1"),
        (dict(y=[0, 1, 0.5]), r"from 0 to 2.* y\[2\]=0.5"),
        (dict(y=np.full((3, 3), 0.5)), "one-hot"),
        (dict(alpha=0), "strictly between 0 and 1"),
        (dict(alpha=1.0), "strictly between 0 and 1"),
        (dict(alpha=float("nan")), "strictly between 0 and 1"),
        (dict(n=0), "Invalid value for argument `n`"),
        (dict(n=10.5), "Invalid value for argument `n`"),
        (dict(n0=0), "Invalid value for argument `n0`"),
        (dict(batch_size=0), "Invalid value for argument `batch_size`"),
        (dict(seed=-1), "Invalid value for argument `seed`"),
        (dict(seed=1.5), "Invalid value for argument `seed`"),
        (dict(verbose=3), "Invalid value for argument `verbose`"),
        (dict(n=9, alpha=0.001), "Expected n >= 10 at alpha=0.001"),
    ],
)
def test_bad_input_is_named_and_writes_nothing(
    model, tmp_path, arguments, message
):
    arguments = {"x": GOOD, "log": tmp_path / "run.tsv", **arguments}
    with pytest.raises(ValueError, match=message):
        certify(model, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dataset,message",
    [
        (lambda x: x.repeat(), "a dataset without end"),
        (lambda x: x.filter(lambda _: False), "at least one example"),
        (lambda x: x.map(lambda x: (x, 0, 1)), "a dataset of x or of"),
        (lambda x: x.map(lambda x: (x, {"label": 0})), "a dataset of x or of"),
        (lambda x: x.map(lambda x: tf.cast(x, "uint8")), "dtype uint8"),
        (lambda x: x.batch(2).batch(2), "Received: elements of shape"),
    ],
)
def test_bad_datasets_are_named(model, tmp_path, dataset, message):
    dataset = dataset(tf.data.Dataset.from_tensor_slices(GOOD))
    with pytest.raises(ValueError, match=message):
        certify(model, dataset, log=tmp_path / "run.tsv")
    assert not list(tmp_path.iterdir())


def test_labels_beside_a_dataset_are_refused(model):
    dataset = tf.data.Dataset.from_tensor_slices(GOOD)
    with pytest.raises(ValueError, match="no `y` beside a dataset"):
        certify(model, dataset, y=[0, 1, 2])


def test_a_bad_example_late_in_a_dataset_keeps_the_rows_before(model, tmp_path):
    x = np.zeros((40, *SHAPE), "float32")
    x[35] = np.nan
    path = tmp_path / "run.tsv"
    with pytest.raises(ValueError, match="in example 35"):
        certify(model, tf.data.Dataset.from_tensor_slices(x), log=path)
    with pytest.warns(UserWarning, match="32 of 40 examples"):
        assert len(ks.read_log(path)) == 32  # Two windows of 16.


@pytest.mark.parametrize("method", ["classify", "fit", "predict"])
def test_integer_images_are_refused_everywhere(model, method):
    model.compile("sgd", "mse")
    x = GOOD.astype("uint8")
    with pytest.raises(ValueError, match="floating type"):
        getattr(model, method)(x, **({"y": x} if method == "fit" else {}))


def test_classify_refuses_too_few_draws(model):
    with pytest.raises(ValueError, match="Expected n >= 11 at alpha=0.001"):
        model.classify(GOOD, n=10)
    assert (model.classify(GOOD, n=11, seed=0) <= 2).all()


def test_bytes_with_a_small_sigma_warn_once(model):
    x = np.tile(
        np.linspace(0, 255, 16, dtype="float32").reshape(SHAPE), (70, 1, 1, 1)
    )
    with pytest.warns(UserWarning, match="look like images") as caught:
        certify(model, x)
    assert [w.category for w in caught].count(UserWarning) == 1
    loud = ks.SmoothedModel(model.base_model, ks.noise.Gaussian(32.0))
    certify(loud, x)  # Warnings are errors here: there is none.


def test_few_draws_warn_of_the_radius_they_cap(model):
    with pytest.warns(UserWarning, match="n=20 draws at alpha=0.001"):
        certify(model, GOOD, n=20, alpha=0.001)


@pytest.mark.parametrize(
    "output",
    [
        keras.layers.Reshape((4, 1)),
        keras.layers.Reshape((2, 2)),
    ],
)
def test_outputs_that_are_no_classes_are_refused(output):
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), output])
    with pytest.raises(ValueError, match="output shape"):
        smoothed(base)

    class Subclassed(keras.Model):
        """Of which Keras does not know the output shape beforehand."""

        def __init__(self):
            super().__init__()
            self.base = base

        def call(self, inputs):
            return self.base(inputs)

    for method in ("certify", "classify"):
        with pytest.raises(ValueError, match="output shape"):
            model = smoothed(Subclassed())
            getattr(model, method)(np.zeros((2, 4), "float32"))


def test_models_with_two_inputs_are_refused():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()(inputs))
    base = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="to name the input"):
        smoothed(base)


def test_nan_outputs_abstain_with_a_warning_and_a_note(tmp_path):
    # log(x + 4): NaN for noise below -4 - x, so for a few draws of one example.
    class Log(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.concatenate([keras.ops.log(inputs), inputs], 1)

    base = keras.Sequential([keras.Input((1,)), Log()])
    model = smoothed(base, sigma=1.0)
    x = np.array([[10.0], [3.0]], "float32")
    path = tmp_path / "run.tsv"
    with pytest.warns(UserWarning, match=r"returned NaN .* example\(s\) \[1\]"):
        result = model.certify(x, [1, 1], n=20_000, seed=0, log=path, verbose=0)
    np.testing.assert_array_equal(result.prediction, [1, ks.ABSTAIN])
    assert result.radius[1] == 0
    read = ks.read_log(path)
    np.testing.assert_array_equal(read.prediction, [1, ks.ABSTAIN])
    assert read.recertify(0.1).prediction[1] == ks.ABSTAIN
    header, first, second = path.read_text().splitlines()
    column = header.split("\t").index("nan_draws")
    assert first.split("\t")[column] == "0"
    assert int(second.split("\t")[column]) > 0
    with pytest.warns(UserWarning, match="returned NaN"):
        labels = model.classify(x, n=20_000, seed=0)
    np.testing.assert_array_equal(labels, [1, ks.ABSTAIN])


def test_an_unbuilt_model_cannot_tell_batches():
    base = keras.Sequential([keras.layers.Dense(2)])
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((4, 3), "float32"))
    with pytest.raises(ValueError, match="known input shape"):
        certify(smoothed(base), dataset)
    assert len(certify(smoothed(base), np.zeros((4, 3), "float32"))) == 4


def test_subclassed_models_certify():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = linear_model([1.0, 0.0])

        def call(self, inputs):
            return self.dense(inputs)

    result = certify(smoothed(Subclassed()), np.ones((3, 2), "float32"))
    assert (result.prediction == 0).all()


# Beside 8,200, float32 numbers are 2^-10 apart, and sigma is as small as it
# may be.
FAR, SIGMA = 8_200.0, 0.51


def half_space(dimensions, border):
    """Class 1 where the mean step from FAR, times a root, is above a border."""
    base = keras.Sequential(
        [
            keras.Input((dimensions,)),
            keras.layers.Rescaling(1.0, offset=-FAR),  # Exact.
            keras.layers.Dense(2),
        ]
    )
    kernel = np.zeros((dimensions, 2), "float32")
    kernel[:, 1] = 1 / np.sqrt(dimensions)
    base.layers[-1].set_weights([kernel, np.array([0, -border], "float32")])
    return smoothed(base, sigma=SIGMA)


def test_radii_are_around_the_input_and_not_where_it_is_rounded_to():
    dimensions = 16_384
    root = np.sqrt(dimensions)
    x = np.full((1, dimensions), FAR + 0.000489)
    assert x.astype("float32")[0, 0] == FAR + 2**-10
    # The true border is half as far from x as the rounding moves it.
    moved = root * (2**-10 - 0.000489)
    border = root * 0.000489 - moved / 2
    model = half_space(dimensions, border)
    settings = dict(n=1_000, alpha=0.05, seed=0, verbose=0)
    result = model.certify(x, **settings)
    assert result.rounding[0] == pytest.approx(moved, rel=1e-9)
    assert result.radius[0] <= moved / 2
    rounded = model.certify(x.astype("float32"), **settings)
    assert rounded.radius[0] > moved / 2 and rounded.rounding[0] == 0
    # It is the same certificate, less what lies between the two inputs.
    left = max(0, rounded.radius[0] - result.rounding[0])
    assert result.radius[0] == pytest.approx(left, abs=1e-12)


def test_classify_answers_for_the_input_and_not_where_it_is_rounded_to():
    dimensions = 16_384
    root = np.sqrt(dimensions)
    # Two inputs .0013 apart, on one side of the border, are rounded to
    # both sides of it.
    near = np.full((2, dimensions), FAR)
    near += np.array([[0.00049], [0.00048]])
    model = half_space(dimensions, 0.06)
    assert (root * (near[:, 0] - FAR) > 0.06).all()
    settings = dict(alpha=0.05, seed=0, n=1_000)
    rounded = model.classify(near.astype("float32"), **settings)
    np.testing.assert_array_equal(rounded, [1, 0])
    assert 0 not in model.classify(near, **settings)


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_float64_that_float32_holds_loses_nothing(voting):
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3, activation="softmax")]
    )
    model = smoothed(base, voting=voting)
    x = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    result, other = (certify(model, form) for form in (x, x.astype("float64")))
    for name in ("prediction", "radius", "p_lower", "counts", "rounding"):
        ours, theirs = getattr(result, name), getattr(other, name)
        np.testing.assert_array_equal(ours, theirs, name)
    assert not result.rounding.any()
    np.testing.assert_array_equal(
        model.classify(x, seed=0), model.classify(x.astype("float64"), seed=0)
    )


def test_a_rounding_too_small_to_matter_changes_no_class():
    x = np.linspace(-1, 1, 41)[:, np.newaxis] / 3
    model = smoothed(linear_model([1.0]))
    np.testing.assert_array_equal(
        model.classify(x, seed=0), model.classify(x.astype("float32"), seed=0)
    )
    result = certify(model, x)
    rounded = certify(model, x.astype("float32"))
    assert result.rounding.max() < 2**-25
    certified = result.radius > 0
    assert certified.sum() > 30
    np.testing.assert_allclose(
        (rounded.radius - result.radius)[certified],
        result.rounding[certified],
        atol=1e-15,
    )
    again = result.recertify(result.alpha)[certified]
    np.testing.assert_array_equal(again.radius, result.radius[certified])
    parts = ks.CertificationResult.concatenate([result[:7], result[7:]])
    np.testing.assert_array_equal(parts.rounding, result.rounding)
    np.testing.assert_array_equal(parts.recertify(0.01).radius, result.radius)


def test_adaptive_sampling_decides_about_the_radius_that_is_stated():
    # The edge is reached around the rounded input, with few draws.
    x = np.full((1, 1_024), FAR + 0.000489)
    root = np.sqrt(x.shape[1])
    model = half_space(x.shape[1], root * 0.000489 - 1.5)

    def certified(x, edge):
        stopping = ks.AdaptiveSampling(radii=[edge], max_n=2_000)
        return model.certify(x, stopping=stopping, seed=0, verbose=0)

    first = certified(x.astype("float32"), 0.1)
    edge = float(first.radius[0]) - 1e-4
    rounded, result = certified(x.astype("float32"), edge), certified(x, edge)
    assert result.rounding[0] > 1e-3
    assert rounded.num_samples[0] == first.num_samples[0]
    assert result.num_samples[0] > rounded.num_samples[0]


def test_of_several_inputs_the_noisy_one_alone_moves():
    image = keras.Input((3,), name="image")
    age = keras.Input((1,), name="age")
    both = keras.layers.Concatenate()([image, age])
    base = keras.Model([image, age], keras.layers.Dense(2)(both))
    model = ks.SmoothedModel(base, {"image": ks.noise.Gaussian(0.25)})
    rng = np.random.default_rng(0)
    x = {"image": rng.normal(size=(4, 3)), "age": rng.normal(size=(4, 1))}
    moved = np.linalg.norm(x["image"] - x["image"].astype("float32"), axis=1)
    result = certify(model, x)
    np.testing.assert_allclose(result.rounding, moved, rtol=1e-12)
    x["image"] = x["image"].astype("float32")
    assert not certify(model, x).rounding.any()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("size", [1e-200, 1e-42, 1.0, 1e30])
def test_the_distance_to_the_rounded_input_is_rounded_up(norm, size):
    rng = np.random.default_rng(0)
    x = size * rng.normal(size=(20, 50))
    rounded = x.astype("float32")
    distance = rounding_distance(x, rounded, norm)
    for i in range(len(x)):
        steps = [
            abs(Fraction(a) - Fraction(b))
            for a, b in zip(x[i].tolist(), rounded[i].tolist(), strict=True)
        ]
        given = Fraction(float(distance[i]))
        exact = {"l1": sum(steps), "linf": max(steps)}.get(norm)
        if norm == "l2":
            exact, given = sum(s * s for s in steps), given**2
        assert exact <= given <= exact * (1 + Fraction(1, 2**45))


def test_narrow_and_wide_types_are_rounded_as_they_are():
    values = np.array([[1 / 3, 2.0]])
    for dtype in ("float16", "float32"):
        x = values.astype(dtype)
        assert rounding_distance(x, x.astype("float32"), "l2") == 0
    x = values.astype(np.longdouble)
    moved = rounding_distance(x, x.astype("float32"), "l2")[0]
    assert moved >= abs(float(np.float32(1 / 3)) - 1 / 3) * (1 - 1e-9)
    # Nothing is certified of noise without a norm.
    assert rounding_distance(values, values.astype("float32"), None) == 0
    with pytest.raises(ValueError, match="norm 'l0'"):
        rounding_distance(values, values.astype("float32"), "l0")


def test_the_majority_at_another_point_is_wrong_alpha_of_the_time():
    # Around x the classes are even, or a bit the other way; draws are made
    # where class 0 has the most votes.
    rng = np.random.default_rng(0)
    runs, n, alpha, distance = 4_000, 1_000, 0.05, 0.1
    noise = ks.noise.Gaussian(1.0)
    first = rng.binomial(n, stats.norm.cdf(distance), runs)
    votes = Votes(np.stack([first, n - first], axis=1), np.full(runs, n))
    changed = noise.total_variation(np.full(runs, distance))
    answer, decided = majority(votes, alpha, changed)
    wrong = np.sum(decided & (answer == 0))
    assert wrong <= stats.binom.ppf(0.999, runs, alpha)
    answer, decided = majority(votes, alpha)
    assert np.sum(decided & (answer == 0)) > 0.5 * runs
    # It abstains no longer than need be.
    votes = Votes(np.array([[700, 300]]), np.array([n]))
    for changed, expected in ((0.0, True), (0.01, True), (0.3, False)):
        assert majority(votes, alpha, changed)[1] == expected


def doors():
    """All that answers about examples, as functions of them."""
    dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    rows = keras.Sequential([dense, keras.layers.Reshape((2, 2))])
    noise = ks.noise.Gaussian(0.25)
    model = ks.SmoothedModel(dense, noise)
    search = ks.DataDependentSigma(0.25, 1.0, steps=1)
    some = dict(n=100, alpha=0.05)
    quiet = dict(some, verbose=0)
    return {
        "certify": lambda x: model.certify(x, **quiet),
        "classify": lambda x: model.classify(x, **some),
        "with a search": lambda x: model.certify(x, sigma=search, **quiet),
        "with a memory": lambda x: model.classify(
            x, memory=ks.CertificationMemory(), **some
        ),
        "labels": lambda x: ks.SmoothedMultiLabel(dense, noise).certify(
            x, **quiet
        ),
        "classes of labels": lambda x: ks.SmoothedMultiLabel(
            dense, noise
        ).classify(x, **some),
        "pixels": lambda x: ks.SmoothedSegmentation(rows, noise).certify(
            x, **quiet
        ),
        "numbers": lambda x: ks.SmoothedRegression(dense, noise).certify(
            x, radii=[0.0], n=200, verbose=0
        ),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("door", doors())
def test_noise_that_is_lost_beside_a_value_is_refused_at_every_door(
    door, dtype
):
    x = np.zeros((2, 6), dtype)
    x[1, 3] = 4_097.0
    with pytest.raises(ValueError, match="float32 resolves the noise"):
        doors()[door](x)
