"""Certificates of pixels, from request to log."""

import json

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import rechain
from conftest import small_convnet
from conftest import smoothed
from keras import ops
from scipy import stats
from test_damaged_logs import edited
from test_damaged_logs import with_value_replaced

import keras_smoothing as ks

SETTINGS = dict(n=500, alpha=0.01, seed=0, verbose=0)
CORRECTIONS = [
    dict(correction="bonferroni"),
    dict(correction="holm", radius=0.15),
    dict(correction=None),
]


def segmented(base, sigma=0.25, **arguments):
    return ks.SmoothedSegmentation(base, ks.noise.Gaussian(sigma), **arguments)


def linear_pixels(weights, bias, size):
    """Pixels of class 1 where `weights . image + bias > 0`, as logits.

    Args:
        weights: float array, shape `(16, pixels)`, for images of 4 x 4.
        bias: float array, shape `(pixels,)`.
        size: tuple, height and width of the mask.
    """
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(weights.shape[1]),
            keras.layers.Reshape((*size, 1)),
        ]
    )
    model.set_weights([weights, bias])
    return model


def network(classes=3, activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(
                classes, 3, padding="same", activation=activation
            ),
        ]
    )


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 6, 5, 2)).astype("float32")
    return x, rng.integers(-1, 3, (20, 6, 5))


@pytest.fixture(scope="module")
def pixels():
    """A linear model of 3 x 2 pixels, images, scores and true radii."""
    rng = np.random.default_rng(1)
    weights, bias = rng.normal(size=(16, 6)), rng.normal(size=6)
    x = rng.normal(size=(40, 4, 4, 1)).astype("float32") / 4
    score = x.reshape(40, 16).astype("f8") @ weights + bias
    distance = np.abs(score) / np.linalg.norm(weights, axis=0)
    model = segmented(linear_pixels(weights, bias, (3, 2)), from_logits=True)
    shape = (40, 3, 2)
    return model, x, weights, score.reshape(shape), distance.reshape(shape)


@pytest.fixture(scope="module")
def result_of_pixels(pixels):
    model, x, *_ = pixels
    return model.certify(x, **{**SETTINGS, "n": 20_000, "alpha": 1e-3})


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_no_radius_exceeds_the_distance_of_a_linear_score(
    pixels, result_of_pixels, correction
):
    *_, score, distance = pixels
    result = result_of_pixels.recertify(1e-3, **correction)
    certified = result.radius > 0
    np.testing.assert_array_equal(
        result.prediction[certified], (score > 0)[certified]
    )
    assert (result.radius <= distance).all()
    if "radius" in correction:
        assert set(np.unique(result.radius)) == {0, 0.15}
        # Above, with what 20,000 draws cannot tell.
        assert certified[distance > 0.165].all()
    else:
        near = certified & (distance < 0.5)
        assert near.sum() > 100
        assert (result.radius[near] > 0.85 * distance[near] - 0.02).all()


def test_no_attack_inside_the_certificates_changes_them(
    pixels, result_of_pixels
):
    _, _, weights, score, _ = pixels
    result = result_of_pixels
    tried = 0
    for i, pixel in zip(*np.nonzero(result.radius.reshape(40, 6)), strict=True):
        # The shortest way to the other class of this pixel.
        weight = weights[:, pixel]
        radius = result.radius[i].ravel()
        sign = np.sign(score[i].ravel()[pixel])
        step = -sign * weight / np.linalg.norm(weight) * radius[pixel]
        moved = score[i].ravel() + 0.999 * step @ weights
        held = radius >= radius[pixel]
        assert held[pixel]
        prediction = result.prediction[i].ravel()
        np.testing.assert_array_equal((moved > 0)[held], prediction[held])
        tried += held.sum()
    assert tried > 300


@pytest.mark.slow
def test_a_gradient_attack_inside_the_certificates_changes_nothing(images):
    x, _ = images
    model = segmented(network(), sigma=0.5)
    result = model.certify(x, **{**SETTINGS, "n": 1_000})
    radius = np.quantile(result.radius[result.radius > 0], 0.7)
    held = result.radius >= radius
    moved = x + attack(model, x, result.candidate, radius)
    labels = model.classify(moved, n=1_000, seed=3)
    decided = held & (labels != ks.ABSTAIN)
    assert decided.sum() > 100
    np.testing.assert_array_equal(labels[decided], result.prediction[decided])
    # Others are changed: the attack is one.
    assert (labels != result.candidate)[~held & (labels >= 0)].sum() > 20


def attack(model, x, candidate, radius, steps=10):
    """Moves of that length that make the candidates improbable."""
    import tensorflow as tf

    noise = np.random.default_rng(0).normal(size=(64, *x.shape[1:])) * 0.5
    move = np.zeros_like(x)
    for _ in range(steps):
        moved = tf.Variable(move)
        with tf.GradientTape() as tape:
            noisy = (x + moved)[:, np.newaxis] + noise.astype("float32")
            logits = model.base_model(tf.reshape(noisy, (-1, *x.shape[1:])))
            log_p = tf.nn.log_softmax(logits)
            log_p = tf.reshape(log_p, (len(x), 64, *log_p.shape[1:]))
            mean = tf.reduce_mean(log_p, axis=1)
            of_candidate = tf.gather(mean, candidate, batch_dims=3)
            loss = tf.reduce_sum(of_candidate)
        gradient = tape.gradient(loss, moved).numpy()
        norm = np.sqrt(np.sum(gradient**2, axis=(1, 2, 3), keepdims=True))
        move = move - 0.3 * radius * gradient / norm
        norm = np.sqrt(np.sum(move**2, axis=(1, 2, 3), keepdims=True))
        move = move * np.minimum(1, 0.999 * radius / norm)
    return move


def assert_equal(result, other):
    for name in ("prediction", "radius", "p_lower", "candidate", "votes"):
        np.testing.assert_array_equal(
            getattr(result, name), getattr(other, name)
        )


def test_batches_and_order_change_no_certificate(images):
    x, y = images
    model = segmented(network())
    result = model.certify(x, y, **SETTINGS)
    assert result.votes.shape == (20, 6, 5)
    for batch_size in (3, 1_000):
        again = model.certify(x, y, **SETTINGS, batch_size=batch_size)
        assert_equal(again, result)
    order = np.random.default_rng(0).permutation(20)
    other = model.certify(x[order], y[order], **SETTINGS)
    assert_equal(other, result[order])
    np.testing.assert_array_equal(other.label, result.label[order])


def test_memory_bounds_change_no_certificate(images, monkeypatch):
    x, y = images
    model = segmented(network())
    result = model.certify(x, y, **SETTINGS)
    labels = model.classify(x, n=200, seed=0)
    # Room for the votes of two images: 6 * 5 * 3 classes.
    from keras_smoothing.certify import components

    monkeypatch.setattr(components, "_VALUES", 200)
    assert_equal(model.certify(x, y, **SETTINGS), result)
    np.testing.assert_array_equal(model.classify(x, n=200, seed=0), labels)


@pytest.mark.parametrize("correction", CORRECTIONS[:2])
def test_a_log_that_was_cut_is_resumed(images, tmp_path, correction):
    x, y = images
    model, log = segmented(network()), tmp_path / "run.tsv"
    settings = {**SETTINGS, **correction, "seed": None}
    result = model.certify(x, y, **settings, log=log)
    whole = log.read_bytes()
    assert_equal(ks.read_log(log), result)
    for end in (len(whole) - 1, len(whole) // 3, 10):
        log.write_bytes(whole[:end])
        again = model.certify(x, y, **settings, log=log)
        assert_equal(again, result)
        assert again.seed == result.seed
    read = ks.read_log(log)
    assert isinstance(read, ks.SegmentationResult)
    assert_equal(read, result)
    np.testing.assert_array_equal(read.label, y)
    np.testing.assert_array_equal(read.index, np.arange(len(y)))
    assert read.statement == result.statement
    assert json.loads((tmp_path / "run.tsv.json").read_text())["answers"] == [
        *(6, 5, 3)
    ]
    with pytest.raises(ValueError, match="is of another run"):
        model.certify(x, y, **{**settings, "alpha": 0.02}, log=log)
    with pytest.raises(ValueError, match="is of other examples"):
        model.certify(x, np.maximum(y, 0), **settings, log=log)


def test_damaged_logs_are_an_error_or_change_nothing(images, tmp_path):
    x, y = images
    model, log = segmented(network()), tmp_path / "run.tsv"
    expected = model.certify(x[:4], y[:4], **SETTINGS, log=log)
    sidecar = tmp_path / "run.tsv.json"
    rng = np.random.default_rng(0)
    for path, edit in (
        (log, edited),
        (sidecar, edited),
        (sidecar, with_value_replaced),
    ):
        text, refused = path.read_text(), 0
        for _ in range(150):
            path.write_text(edit(text, rng))
            try:
                result = ks.read_log(log)
            except ValueError as error:
                assert "Expected " in str(error)
                refused += 1
            else:
                assert_equal(result, expected[: len(result)])
        path.write_text(text)
        assert refused > 40


@pytest.mark.parametrize(
    "column,change",
    [
        ("votes", lambda a: a + 501),
        # Of what is certified anyway.
        ("votes", lambda a: np.where(a == a.max(), 501, a).astype(a.dtype)),
        ("votes", lambda a: a.astype("int64")),
        ("votes", lambda a: a[:3]),
        ("candidate", lambda a: a + 3),
        ("candidate", lambda a: 0 * a - 1),
        ("nan_draws", lambda a: a - 1),
        ("nan_draws", lambda a: a + 1),
        ("label", lambda a: a + 3),
        ("num_samples", lambda a: 499),
    ],
)
def test_rows_that_no_sampling_gives_are_refused(
    images, tmp_path, column, change
):
    from keras_smoothing.logs import array_rows

    x, y = images
    model, log = segmented(network()), tmp_path / "run.tsv"
    # By Holm's p-values: the other bound knows how many votes there can be.
    settings = {**SETTINGS, **CORRECTIONS[1]}
    result = model.certify(x[:2], y[:2], **settings, log=log)
    heading, first, *rest = log.read_text().splitlines()
    cells = first.split("\t")
    which = heading.split("\t").index(column)
    cells[which] = array_rows._to_text(change(getattr(result, column)[0]))
    assert cells[which] != first.split("\t")[which]
    log.write_text("\n".join([heading, "\t".join(cells), *rest]) + "\n")
    rechain(log)
    with pytest.raises(ValueError, match="Expected "):
        ks.read_log(log)


def test_votes_that_change_an_answer_are_seen(pixels, tmp_path):
    from keras_smoothing.logs import array_rows

    model, x, *_ = pixels
    log = tmp_path / "run.tsv"
    result = model.certify(x[:2], **SETTINGS, log=log)
    heading, first, second = log.read_text().splitlines()
    votes = np.zeros_like(result.votes[0])
    cells = first.split("\t")
    cells[heading.split("\t").index("votes")] = array_rows._to_text(votes)
    log.write_text("\n".join([heading, "\t".join(cells), second]) + "\n")
    rechain(log)
    with pytest.raises(ValueError, match="rows that follow from their arrays"):
        ks.read_log(log)


@pytest.mark.slow
def test_keras_goes_on_as_before(images, tmp_path):
    x = images[0]
    y = (x[..., :1] > 0).astype("float32")
    base = network(1)
    model = segmented(base, seed=0, threshold=0.4)
    weights = len(model.weights)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.05), loss, metrics=["binary_accuracy"]
    )
    model.fit(x, y, epochs=30, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.7
    assert len(model.weights) == weights == len(base.weights)
    assert model(x).shape == (20, 6, 5, 1)
    result = model.certify(x, y, **SETTINGS)
    assert result.certified_accuracy(0) > 0.5
    shares = model.predict(x, verbose=0)
    assert shares.shape == (20, 6, 5, 1)
    share_of_one = np.where(
        result.candidate == 1, result.votes, 500 - result.votes
    )
    np.testing.assert_allclose(shares[..., 0], share_of_one / 500, atol=0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, ks.SmoothedSegmentation)
    assert_equal(loaded.certify(x, y, **SETTINGS), result)


def test_masks_train_with_their_void_left_out(images):
    x, y = images
    model = segmented(network())
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    model.compile("adam", loss)
    history = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert history[2] < history[0]
    assert model.predict(x, verbose=0).shape == (20, 6, 5, 3)


def test_other_objectives_are_for_classes(images):
    x, y = images
    model = segmented(network())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, objective=ks.training.Consistency())
    with pytest.raises(ValueError, match="one class for each example"):
        model.fit(x, np.maximum(y, 0), verbose=0)


def test_a_sigmoid_is_as_good_as_two_classes(images):
    x, _ = images
    one, two = network(1), network(2)
    kernel, bias = one.layers[-1].get_weights()
    two.layers[0].set_weights(one.layers[0].get_weights())
    two.layers[1].set_weights(
        [
            np.concatenate([0 * kernel, kernel], axis=-1),
            np.hstack([0 * bias, bias]),
        ]
    )
    result, other = (
        segmented(base).certify(x, **SETTINGS) for base in (one, two)
    )
    # Where rounding decides, the two need not agree.
    assert np.abs(result.votes - other.votes).max() <= 1
    assert (result.votes != other.votes).mean() < 0.01
    sigmoid = network(1, "sigmoid")
    sigmoid.set_weights(one.get_weights())
    again = segmented(sigmoid).certify(x, **SETTINGS)
    assert np.abs(result.votes - again.votes).max() <= 1
    assert {0, 1} <= set(np.unique(result.prediction))


def test_one_pixel_has_the_certificate_of_a_class(digits):
    x, _ = digits
    keras.utils.set_random_seed(0)
    base = small_convnet()
    mask = keras.Sequential([*base.layers, keras.layers.Reshape((1, 1, 10))])
    mask.build((None, 8, 8, 1))
    result = segmented(mask).certify(x, **SETTINGS)
    other = smoothed(base).certify(x, **SETTINGS)
    np.testing.assert_array_equal(result.candidate[:, 0, 0], other.candidate)
    np.testing.assert_array_equal(result.radius[:, 0, 0], other.radius)
    np.testing.assert_array_equal(result.p_lower[:, 0, 0], other.p_lower)
    labels = segmented(mask).classify(x, n=100, seed=1)
    np.testing.assert_array_equal(
        labels[:, 0, 0], smoothed(base).classify(x, n=100, seed=1)
    )


def test_pixels_of_one_class_each_have_its_certificate(images):
    # By itself, a pixel is a classification by the same draws.
    x, _ = images
    base = network()
    result = segmented(base).certify(x, **SETTINGS, correction=None)
    for row, column in ((0, 0), (3, 2)):
        pixel = keras.Model(base.inputs, base.outputs[0][:, row, column])
        other = smoothed(pixel).certify(x, **SETTINGS)
        np.testing.assert_array_equal(
            result.radius[:, row, column], other.radius
        )
        np.testing.assert_array_equal(
            result.prediction[:, row, column], other.prediction
        )


def test_all_pixels_share_alpha(images):
    x, y = images
    model = segmented(network())
    whole = model.certify(x, y, **SETTINGS)
    alone = model.certify(
        x, y, **{**SETTINGS, "alpha": 0.01 / 30}, correction=None
    )
    np.testing.assert_array_equal(whole.radius, alone.radius)
    shared = model.certify(x, y, **SETTINGS, family_wise=True)
    assert shared.alpha == 0.01 / 20
    assert (shared.radius <= whole.radius).all()
    again = whole.recertify(0.01, family_wise=True)
    assert_equal(again, shared)
    for correction in CORRECTIONS:
        assert_equal(
            whole.recertify(0.05, **correction),
            model.certify(x, y, **{**SETTINGS, "alpha": 0.05}, **correction),
        )


def test_a_nan_costs_one_pixel_only():
    class LogOfOnePixel(keras.layers.Layer):
        def call(self, x):
            # NaN for noise below -2 in the first pixel, so in a few draws.
            first = ops.log(x[:, :1, :1] + 0.5)
            row = ops.concatenate([first, x[:, :1, 1:]], axis=2)
            x = ops.concatenate([row, x[:, 1:]], axis=1)
            return ops.concatenate([x, 0 * ops.ones_like(x)], axis=-1)

    base = keras.Sequential([keras.Input((2, 2, 1)), LogOfOnePixel()])
    model = segmented(base)
    x = np.full((3, 2, 2, 1), 2.0, "float32")
    x[1, 0, 0] = 0.0
    with pytest.warns(
        UserWarning, match=r"on components of example\(s\) \[1\]"
    ):
        result = model.certify(x, **SETTINGS)
    expected = np.zeros((3, 2, 2), bool)
    expected[1, 0, 0] = True
    np.testing.assert_array_equal(result.abstained, expected)
    np.testing.assert_array_equal(result.nan_draws > 0, expected)
    assert (result.votes[expected] == 0).all()
    with pytest.warns(UserWarning, match="components of") as caught:
        labels = model.classify(x, n=500, seed=0)
    assert __file__ in files(caught)
    np.testing.assert_array_equal(labels == ks.ABSTAIN, expected)


def test_the_draws_that_select_do_not_estimate():
    # On the boundary both classes are equally likely and no radius is right.
    # Selecting and estimating with the same draws would fail twice as often.
    base = keras.Sequential(
        [keras.Input((50, 50, 1)), keras.layers.Conv2D(2, 1, use_bias=False)]
    )
    base.set_weights([np.array([[[[1.0, 0.0]]]])])
    x = np.zeros((1, 50, 50, 1), "float32")
    settings = dict(n0=200, n=200, alpha=0.2, seed=0, verbose=0)
    result = segmented(base).certify(x, **settings, correction=None)
    certified = np.sum(result.radius > 0)
    # Each pixel has noise of its own.
    assert certified <= stats.binom.ppf(0.999, 2_500, 0.2)
    assert certified >= stats.binom.ppf(0.001, 2_500, 0.1)


def test_a_warning_points_at_the_line_of_the_user(images):
    x, _ = images
    with pytest.warns(UserWarning, match="certify no l2 radius") as caught:
        segmented(network()).certify(x[:1], **{**SETTINGS, "n": 30})
    assert __file__ in files(caught)


def files(caught):
    return {w.filename for w in caught if w.category is UserWarning}


@pytest.mark.slow
def test_classify_errs_in_any_pixel_at_most_alpha_of_the_time():
    # 12 pixels that draw for themselves, of class 0 with probability 0.52.
    margin = 0.25 * stats.norm.ppf(0.52)
    base = keras.Sequential(
        [keras.Input((3, 4, 1)), keras.layers.Conv2D(2, 1, use_bias=False)]
    )
    base.set_weights([np.array([[[[1.0, 0.0]]]])])
    model = segmented(base)
    x = np.full((200, 3, 4, 1), margin, "float32")
    wrong, alone, runs = 0, 0, 200
    for seed in range(runs):
        settings = dict(n=100, alpha=0.2, seed=seed, check_independence=False)
        wrong += (model.classify(x[:1], **settings) == 1).any()
        settings["correction"] = None
        alone += (model.classify(x[:1], **settings) == 1).any()
    assert wrong <= stats.binom.ppf(0.999, runs, 0.2)
    assert alone > stats.binom.ppf(0.999, runs, 0.2)


def test_classify_has_no_holm(images):
    # Its draws choose the classes that they test.
    with pytest.raises(ValueError, match="`correction`"):
        segmented(network()).classify(images[0], correction="holm")


@pytest.mark.parametrize("shape", [(7, 2), (3, 4, 5, 2)])
def test_sequences_and_volumes_have_components_too(shape):
    rng = np.random.default_rng(0)
    base = keras.Sequential([keras.Input(shape), keras.layers.Dense(3)])
    x = rng.normal(size=(3, *shape)).astype("float32")
    y = rng.integers(0, 3, (3, *shape[:-1]))
    model = segmented(base)
    result = model.certify(x, y, **SETTINGS)
    assert result.radius.shape == (3, *shape[:-1])
    assert model.classify(x, n=100).shape == (3, *shape[:-1])
    with pytest.raises(ValueError, match="in rows and columns"):
        result.plot_map(0)


def test_images_of_any_size():
    base = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.Conv2D(3, 1)]
    )
    model = segmented(base)
    for size in ((4, 5), (2, 3)):
        x = np.zeros((2, *size, 1), "float32")
        assert model.certify(x, **SETTINGS).radius.shape == (2, *size)
    with pytest.raises(ValueError, match="known input shape"):
        model.plan(100)


def test_labels_of_a_model_that_was_not_built(images):
    x, y = images
    for labels, expected in (
        (y, None),
        (y[..., np.newaxis], None),
        (y[:, 0, 0], "with 2 axes"),
    ):
        model = segmented(keras.Sequential([keras.layers.Conv2D(3, 1)]))
        if expected is None:
            result = model.certify(x, labels, **SETTINGS)
            np.testing.assert_array_equal(result.label, y)
            continue
        with pytest.raises(ValueError, match=expected):
            model.certify(x, labels, **SETTINGS)


def test_labels_come_in_the_forms_that_keras_takes(images):
    tf = pytest.importorskip("tensorflow")
    x, y = images
    model = segmented(network())
    result = model.certify(x, y, **SETTINGS)
    for labels in (y[..., np.newaxis], y.astype("float32"), y.astype("int8")):
        again = model.certify(x, labels, **SETTINGS)
        np.testing.assert_array_equal(again.label, result.label)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    again = model.certify(dataset, **SETTINGS)
    assert_equal(again, result)
    np.testing.assert_array_equal(again.label, result.label)


def test_plan_says_what_can_be_certified(images):
    x, _ = images
    plan = segmented(network()).plan(500, 0.01, num_examples=20)
    p = (0.01 / 30) ** (1 / 500)
    assert plan.largest_radius == pytest.approx(0.25 * stats.norm.ppf(p))
    assert plan.smallest_n == 12  # 2^-12 is below 0.01 / 30, 2^-11 is not.
    assert plan.draws == 20 * 600 and plan.seconds > 0
    assert "l2" in str(plan)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(n=11), "n >= 12 at alpha=0.01, shared out over 30 pixels"),
        (dict(n=20, correction="holm", radius=0.5), "Expected n >= "),
        (dict(n=ks.AdaptiveSampling([0.0])), "a stopping rule follows one"),
        (dict(n=0), "argument `n`"),
        (dict(correction="sidak"), "argument `correction`"),
        (dict(correction="holm"), "Expected `radius` with"),
        (dict(radius=0.1), "Expected `radius` with"),
        (dict(correction=None, family_wise=True), "family_wise=True"),
        (dict(y=np.zeros((20, 5, 6), int)), r"shape \('examples', 6, 5\)"),
        (dict(y=np.zeros((20, 6, 5, 3), int)), r"single 1.*y\[0, 0, 0\]=\[0 0"),
        (dict(y=np.zeros((20, 6, 5, 4), int)), "one-hot .20, .components, 3"),
        (dict(y=np.zeros(20, int)), "with 2 axes"),
        (dict(y=np.full((20, 6, 5), 3)), "integers from 0 to 2"),
        (dict(y=np.full((20, 6, 5), 255)), "-1 for what does not count"),
        (dict(y=np.full((20, 6, 5), 0.5)), "from 0 to 2, .* or -1"),
        (dict(y=np.full((20, 6, 5), -2)), "from 0 to 2, .* or -1"),
        (
            dict(y=np.full((20, 6, 5), "a")),
            "class labels `y`: integers",
        ),
        (dict(y=np.zeros((19, 6, 5), int)), "as many labels as examples"),
    ],
)
def test_bad_requests(images, arguments, message):
    x, _ = images
    with pytest.raises(ValueError, match=message):
        segmented(network()).certify(x, **{**SETTINGS, **arguments})


def test_what_no_noise_can_prove_is_refused(images):
    model = ks.SmoothedSegmentation(network(), ks.noise.Uniform(0.5))
    with pytest.raises(ValueError, match="for which no probability is enough"):
        model.certify(images[0], **SETTINGS, correction="holm", radius=0.6)


def test_classify_needs_enough_draws(images):
    with pytest.raises(ValueError, match="n >= 13 at alpha=0.01 / 30"):
        segmented(network()).classify(images[0], n=12, alpha=0.01)
    with pytest.raises(ValueError, match="a stopping rule follows one"):
        segmented(network()).classify(images[0], n=ks.FixedSampling(100))


def test_models_of_another_kind_are_sent_to_their_class():
    with pytest.raises(ValueError, match="ks.SmoothedModel` is for one class"):
        segmented(linear_model([1.0]))
    with pytest.raises(ValueError, match="ks.SmoothedMultiLabel"):
        segmented(linear_model([1.0]))
    with pytest.raises(ValueError, match="`ks.SmoothedSegmentation`"):
        smoothed(network())
    with pytest.raises(ValueError, match="`ks.SmoothedSegmentation`"):
        smoothed(network(1))
    with pytest.raises(ValueError, match="Expected no `group`"):
        segmented(network(), group=ks.groups.D4("channels_last"))
    unbuilt = keras.Sequential([keras.layers.Conv2D(3, 1)])
    with pytest.raises(ValueError, match="Expected no `group`"):
        segmented(unbuilt, group=ks.groups.D4("channels_last"))
    with pytest.raises(ValueError, match="for a binary base model"):
        segmented(network(), from_logits=True)
    with pytest.raises(ValueError, match="Expected `from_logits`"):
        segmented(network(1, "tanh"))


def test_models_that_mix_a_batch_are_refused(images):
    x, _ = images

    class Mean(keras.layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    mixing = keras.Sequential(
        [keras.Input((6, 5, 2)), Mean(), *network().layers]
    )
    with pytest.raises(ValueError, match="depend on what else is in the batch"):
        segmented(mixing).certify(x, **SETTINGS)


@pytest.mark.slow
def test_on_a_cluster(images):
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    x, y = images
    model = segmented(network(1))
    y = np.minimum(y, 1)
    cluster = ks.cluster.Ray(num_workers=1)
    assert_equal(
        model.certify(x, y, **SETTINGS, cluster=cluster),
        model.certify(x, y, **SETTINGS),
    )


def test_certificates_are_around_the_input_as_it_was_given(tmp_path):
    # Beside 1, float32 numbers are 2^-23 apart: the rounding is 1e-7 or so.
    rng = np.random.default_rng(0)
    base = linear_pixels(rng.normal(size=(16, 4)), np.ones(4), (2, 2))
    model = segmented(base, from_logits=True)
    x = 1 + rng.random((3, 4, 4, 1))
    rounded = x.astype("float32")
    moved = np.linalg.norm((x - rounded).reshape(3, -1), axis=1)
    for which in CORRECTIONS:
        path = tmp_path / f"{which['correction']}.tsv"
        result = model.certify(x, log=path, **SETTINGS, **which)
        np.testing.assert_allclose(result.rounding, moved, rtol=1e-12)
        plain = model.certify(rounded, **SETTINGS, **which)
        np.testing.assert_array_equal(result.votes, plain.votes)
        if which["correction"] != "holm":
            left = plain.radius - result.rounding[:, np.newaxis, np.newaxis]
            left = np.where(plain.radius > 0, left, 0)
            np.testing.assert_allclose(result.radius, left, atol=1e-15)
        np.testing.assert_array_equal(ks.read_log(path).radius, result.radius)
        resumed = model.certify(x, log=path, **SETTINGS, **which)
        np.testing.assert_array_equal(resumed.radius, result.radius)
        again = result.recertify(0.01, **which)
        np.testing.assert_array_equal(again.radius, result.radius)
        with pytest.raises(ValueError, match="of other examples.*rounding"):
            model.certify(rounded, log=path, **SETTINGS, **which)
    np.testing.assert_array_equal(
        model.classify(x, n=1_000, seed=0),
        model.classify(rounded, n=1_000, seed=0),
    )
