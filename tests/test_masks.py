"""Sequences of different lengths: noise on valid steps, padding as it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import serving

SIGMA, LENGTHS, STEPS = 0.5, (2, 5, 9), 9
QUIET = dict(verbose=0, seed=0)


def gaussian():
    return ks.noise.Gaussian(sigma=SIGMA)


def rows(features=2):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, features)).astype("float32") for n in LENGTHS]


def padded(value=0.0, steps=STEPS):
    x = np.full((len(LENGTHS), steps, 2), value, "float32")
    for i, row in enumerate(rows()):
        x[i, : len(row)] = row
    return x


def ragged():
    flat = np.concatenate(rows())
    return tf.RaggedTensor.from_row_lengths(flat, LENGTHS)


def is_padding(steps=STEPS):
    return np.arange(steps) >= np.array(LENGTHS)[:, np.newaxis]


def mean_of_valid(value=0.0, steps=None):
    """A linear classifier of the mean over valid steps: w = (1, -1)."""
    model = keras.Sequential(
        [
            keras.Input((steps, 2), name="x"),
            keras.layers.Masking(value),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    model.set_weights([np.array([[0.5, -0.5], [-0.5, 0.5]]), np.zeros(2)])
    return model


def tagger(value=0.0):
    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.Masking(value),
            keras.layers.Dense(2),
        ]
    )
    model.set_weights([np.eye(2), np.zeros(2)])
    return model


def exact_shares():
    """Probabilities of class 0, and radii: those of each row by itself."""
    margin = np.array([np.mean(row @ [1.0, -1.0]) for row in rows()])
    stddev = SIGMA * np.sqrt(2 / np.array(LENGTHS))
    radius = np.abs(margin) * np.sqrt(np.array(LENGTHS) / 2)
    return stats.norm.cdf(margin / stddev), radius


@pytest.mark.parametrize(("value", "steps"), [(0.0, 9), (-1.0, 40)])
def test_padding_changes_no_vote(value, steps):
    """In a batch and alone, however far it is padded: as in closed form."""
    share, radius = exact_shares()
    model = ks.SmoothedModel(mean_of_valid(value), gaussian())
    n = 10_000
    result = model.certify(padded(value, steps), n=n, **QUIET)
    spread = 5 * np.sqrt(share * (1 - share) / n) + 1e-9
    assert (np.abs(result.counts[:, 0] / n - share) <= spread).all()
    assert (result.radius <= radius).all()
    # Unanimous votes prove no more than their number does.
    assert (result.radius >= np.minimum(0.8 * radius - 0.02, 1.5)).all()
    alone = model.certify(rows()[0][np.newaxis], n=n, **QUIET)
    assert abs(alone.counts[0, 0] / n - share[0]) <= spread[0]


def test_ragged_rows_are_padded_with_what_is_masked():
    model = ks.SmoothedModel(mean_of_valid(-1.0), gaussian())
    dense = model.certify(padded(-1.0), n=500, **QUIET)
    for x in (ragged(), {"x": ragged()}):
        result = model.certify(x, n=500, **QUIET)
        np.testing.assert_array_equal(result.counts, dense.counts)
        np.testing.assert_array_equal(result.digest, dense.digest)
    labels = model.classify(ragged(), seed=0)
    np.testing.assert_array_equal(labels, model.classify(padded(-1.0), seed=0))
    assert "valid steps, padding fixed" in result.statement
    layers = mean_of_valid(-1.0).layers  # Without an input of known shape.
    model = ks.SmoothedModel(keras.Sequential(layers), gaussian())
    np.testing.assert_array_equal(
        model.certify(ragged(), n=500, **QUIET).counts, dense.counts
    )
    # To as many steps as the model takes.
    longer = ks.SmoothedModel(mean_of_valid(-1.0, 12), gaussian())
    np.testing.assert_array_equal(
        longer.certify(ragged(), n=500, **QUIET).counts,
        longer.certify(padded(-1.0, 12), n=500, **QUIET).counts,
    )


def test_ragged_rows_that_no_model_can_tell_are_refused():
    base = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    model = ks.SmoothedModel(base, gaussian())
    with pytest.raises(ValueError, match="rows of 2 to 9 steps"):
        model.certify(ragged(), n=100, alpha=0.1, **QUIET)
    same = tf.RaggedTensor.from_row_lengths(np.ones((6, 2), "float32"), [3, 3])
    assert len(model.certify(same, n=100, alpha=0.1, **QUIET)) == 2
    masked = ks.SmoothedModel(mean_of_valid(), gaussian())
    uneven = tf.ragged.constant([[[1.0, 2.0], [3.0]]])
    with pytest.raises(ValueError, match="number of steps alone"):
        masked.classify(uneven)
    with pytest.raises(ValueError, match="Expected a dense tensor"):
        masked.predict(ragged(), verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices(ragged()).batch(2)
    with pytest.raises(ValueError, match="padding_values"):
        masked.classify(dataset)


@pytest.mark.parametrize(
    "noise",
    [ks.noise.Gaussian(0.5), ks.noise.Laplace(0.5), ks.noise.Uniform(0.5)],
)
def test_noise_is_on_valid_steps_alone(noise):
    x, padding = padded(-1.0), is_padding()
    model = ks.SmoothedModel(mean_of_valid(-1.0), noise)
    noisy = np.array(model.draw_noise(x, num_copies=2)(x))
    # What attacks make of padding is put back.
    others = np.array(model.draw_noise(x)(x + 1))
    layer = ks.add_input_noise(mean_of_valid(-1.0), noise).layers[1]
    for found in (noisy[:3], noisy[3:], others, np.array(layer(x))):
        np.testing.assert_array_equal(found[padding], -1.0)
        assert (found[~padding] != x[~padding]).all()


def test_a_noise_layer_heeds_the_mask_and_hands_it_on():
    x, padding = padded(), is_padding()
    masked = keras.layers.Masking()(x)
    noisy = ks.layers.GaussianNoiseAlways(0.5)(masked)
    np.testing.assert_array_equal(np.array(noisy)[padding], 0.0)
    assert (np.array(noisy)[~padding] != x[~padding]).all()
    counts = keras.layers.GlobalAveragePooling1D()(noisy)
    wanted = [np.array(noisy)[i, :n].mean(0) for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(counts, wanted, rtol=1e-5)


def test_added_noise_is_recognised(tmp_path):
    noisy = ks.add_input_noise(mean_of_valid(-1.0), gaussian(), seed=0)
    noisy.save(tmp_path / "noisy.keras")
    noisy = keras.saving.load_model(tmp_path / "noisy.keras")
    model = ks.SmoothedModel(noisy)
    plain = ks.SmoothedModel(mean_of_valid(-1.0), gaussian())
    assert repr(model.noise) == repr(plain.noise)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = plain.certify(padded(-1.0), n=500, **QUIET).counts
    for each in (model, loaded):
        result = each.certify(padded(-1.0), n=500, **QUIET)
        np.testing.assert_array_equal(result.counts, expected)
    outputs = noisy(np.tile(padded(-1.0), (400, 1, 1)))
    logits = np.mean(np.reshape(outputs, (400, 3, 2)), axis=0)
    margin = 2 * logits[:, 0] - [np.mean(r @ [1.0, -1.0]) for r in rows()]
    bound = 5 * SIGMA * np.sqrt(2 / np.array(LENGTHS)) / 20
    assert (np.abs(margin) < bound).all()


def test_predict_and_regression_leave_padding_alone():
    share, _ = exact_shares()
    model = ks.SmoothedModel(mean_of_valid(), gaussian(), 2_000, seed=0)
    spread = 5 * np.sqrt(share * (1 - share) / 2_000) + 1e-9
    shares = model.predict(padded(steps=30), verbose=0)
    assert (np.abs(shares[:, 0] - share) <= spread).all()
    base = mean_of_valid()
    number = keras.Model(base.inputs[0], base.outputs[0][:, :1])
    regression = ks.SmoothedRegression(number, gaussian(), 500, seed=0)
    wanted = [np.mean(row @ [0.5, -0.5]) for row in rows()]
    error = 5 * 1.26 * SIGMA / np.sqrt(2 * 500 * np.array(LENGTHS))
    found = regression.predict(padded(steps=30), verbose=0)[:, 0]
    assert (np.abs(found - wanted) < error).all()
    result = regression.certify(padded(), radii=[0.0], n=500, **QUIET)
    lower, upper = result.at(0.0)
    assert (np.ravel(upper - lower) < 4 * error).all()


@pytest.mark.parametrize(
    "objective",
    [
        ks.training.GaussianAugmentation(),
        ks.training.Consistency(),
        ks.training.Stability(),
        ks.training.MACER(num_copies=2),
        # Its bounds would clip padding.
        ks.training.SmoothAdv(epsilon=0.5, bounds=(0.0, 1.0)),
    ],
    ids=str,
)
def test_training_does_not_depend_on_padding(objective):
    """Two batches of one example each, which differ in padding alone."""
    row = rows()[1]
    losses = []
    for steps in (5, 9):
        x = np.full((1, steps, 2), -1.0, "float32")
        x[0, :5] = row
        # Draws of noise depend on shapes; so little of it does not show.
        model = ks.SmoothedModel(
            mean_of_valid(-1.0), ks.noise.Gaussian(1e-4), seed=0
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, objective=objective)
        losses.append(model.fit(x, np.zeros(1), verbose=0).history["loss"][0])
    np.testing.assert_allclose(*losses, rtol=1e-2, atol=1e-2)


def test_steps_that_are_padding_do_not_count(tmp_path):
    padding = is_padding()
    y = np.argmax(padded(), axis=-1)
    model = ks.SmoothedSegmentation(tagger(), gaussian())
    settings = dict(n=500, alpha=0.01, log=tmp_path / "log", **QUIET)
    result = model.certify(padded(), y, **settings)
    np.testing.assert_array_equal(result.prediction[padding], ks.ABSTAIN)
    np.testing.assert_array_equal(result.radius[padding], 0)
    np.testing.assert_array_equal(result.label, np.where(padding, -1, y))
    assert result.certified_accuracy(0.0) == np.mean(result.correct[~padding])
    again = model.certify(padded(), y, **settings)
    np.testing.assert_array_equal(again.votes, result.votes)
    read = ks.read_log(tmp_path / "log")
    np.testing.assert_array_equal(read.prediction, result.prediction)
    labels = model.classify(padded(), seed=0)
    np.testing.assert_array_equal(labels[padding], ks.ABSTAIN)
    assert (labels[~padding] != ks.ABSTAIN).any()
    # Labels come as the examples do.
    y = tf.RaggedTensor.from_row_lengths(y[~padding], LENGTHS)
    of_ragged = model.certify(ragged(), y, **{**settings, "log": None})
    np.testing.assert_array_equal(of_ragged.label, result.label)
    np.testing.assert_array_equal(of_ragged.votes, result.votes)


def test_one_of_several_inputs():
    sequence = keras.Input((STEPS, 2), name="sequence")
    bias = keras.Input((2,), name="bias")
    logits = mean_of_valid(-1.0, STEPS)(sequence)
    base = keras.Model([sequence, bias], logits + bias)
    model = ks.SmoothedModel(base, noise={"sequence": gaussian()})
    x = {"sequence": padded(-1.0), "bias": np.zeros((3, 2), "float32")}
    share, _ = exact_shares()
    spread = 5 * np.sqrt(share * (1 - share) / 2_000) + 1e-9
    counts = model.certify(x, n=2_000, **QUIET).counts
    assert (np.abs(counts[:, 0] / 2_000 - share) <= spread).all()
    noisy = model.draw_noise(x)(x)[0]
    np.testing.assert_array_equal(np.array(noisy)[is_padding()], -1.0)
    again = ks.SmoothedModel.from_config(model.get_config())
    assert repr(again.noise) == repr(model.noise)


def test_values_of_padding_are_not_judged():
    """However large, or however float32 rounds them."""
    far = ks.SmoothedModel(mean_of_valid(-1e9), gaussian())
    assert len(far.certify(padded(-1e9), n=500, **QUIET)) == 3
    model = ks.SmoothedModel(mean_of_valid(0.1), gaussian())
    x = padded(0.1).astype("float64")
    x[is_padding()] = 0.1
    result = model.certify(x, n=500, **QUIET)
    np.testing.assert_array_equal(result.rounding, 0)
    # A valid step that would be taken for padding.
    x[2, 3] = np.nextafter(0.1, 1.0)
    with pytest.raises(ValueError, match="rounds to it in example 2"):
        model.certify(x, n=500, **QUIET)


def test_sigma_for_each_example():
    model = ks.SmoothedModel(mean_of_valid(), gaussian())
    sigma = ks.DataDependentSigma(0.2, 0.8, steps=3)
    found = [sigma.search(model, padded(steps=n)[2:]) for n in (9, 30)]
    np.testing.assert_allclose(
        found[0].value_trace[:, 0], found[1].value_trace[:, 0], rtol=0.25
    )


def test_what_knows_of_no_padding_is_refused(tmp_path):
    model = ks.SmoothedModel(mean_of_valid(0.0, STEPS), gaussian())
    x = padded()
    for name, value in {
        "memory": ks.CertificationMemory(),
        "sigma": ks.ANCER(ks.DataDependentSigma(0.2, 0.8)),
        "serialized": ks.serialized.Exact(),
    }.items():
        with pytest.raises(ValueError, match=f"Expected {name}=None"):
            model.classify(x, **{name: value})
    with pytest.raises(ValueError, match="Expected group=None"):
        ks.SmoothedModel(
            mean_of_valid(0.0, STEPS), gaussian(), group=ks.groups.CyclicShift()
        )
    with pytest.raises(ValueError, match="without Masking"):
        model.export(tmp_path / "exported", verbose=False)


def test_a_service_takes_padded_sequences():
    model = ks.SmoothedModel(mean_of_valid(-1.0, STEPS), gaussian())
    service = serving.Service(model, n=1_000, seed=0)
    x = service.check(padded(-1.0).tolist())
    wanted = model.certify(padded(-1.0), n=1_000, **QUIET)
    radius = [each.radius for each in service.answers["certify"](x)]
    np.testing.assert_array_equal(radius, wanted.radius)


def masked_behind(*layers):
    return keras.Sequential(
        [
            *layers,
            keras.layers.Masking(),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )


@pytest.mark.parametrize("built", [True, False])
def test_masking_that_comes_too_late_is_warned_of(built):
    inputs = [keras.Input((None, 2))] if built else []
    rescaling = keras.layers.Rescaling(2.0)
    with pytest.warns(UserWarning, match="Masking layer behind others"):
        ks.SmoothedModel(masked_behind(*inputs, rescaling), gaussian())
    # Nothing is warned of, and the mask found.
    model = ks.SmoothedModel(masked_behind(*inputs), gaussian())
    assert "other than 0.0" in repr(model.noise)


def test_two_masks_have_to_agree():
    x = keras.Input((None, 2))
    means = [
        keras.layers.GlobalAveragePooling1D()(keras.layers.Masking(value)(x))
        for value in (0.0, 1.0)
    ]
    with pytest.raises(ValueError, match="with one `mask_value`"):
        ks.SmoothedModel(keras.Model(x, keras.layers.Add()(means)), gaussian())


def test_what_looks_like_padding_is_warned_of():
    base = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.GRU(3), keras.layers.Dense(2)]
    )
    model = ks.SmoothedModel(base, gaussian())
    with pytest.warns(UserWarning, match="end in steps of zeros"):
        model.certify(padded(), n=100, alpha=0.1, **QUIET)
    model.certify(padded()[2:], n=100, alpha=0.1, **QUIET)


@pytest.mark.parametrize("wrap", [ks.SmoothedModel, ks.add_input_noise])
def test_noise_on_ids_is_warned_of(wrap):
    base = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Embedding(10, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    with pytest.warns(UserWarning, match="belongs behind the Embedding"):
        wrap(base, gaussian())
    ids = keras.Input((5,), dtype="int32")
    with pytest.raises(ValueError, match="input of dtype int32"):
        wrap(keras.Model(ids, base(ops.cast(ids, "float32"))), gaussian())
