"""Serialized smoothing of equilibrium networks, end to end."""

import functools

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import logits_loss
from conftest import small_convnet
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.equilibrium import cells
from keras_smoothing.sampling import VoteSampler
from keras_smoothing.serialized.exact_sampler import ExactSampler
from keras_smoothing.serialized.head import Head
from keras_smoothing.serialized.split import split

NOISE = ks.noise.Gaussian(0.25)
SETTINGS = dict(n0=50, n=1_000, alpha=0.01, seed=0, verbose=0)

CELLS = {
    "contractive": lambda: cells.ContractiveDense(24, contraction=0.8),
    "monotone": lambda: cells.MonotoneDense(24),
    "forward-backward": lambda: cells.MonotoneDense(
        24, splitting="forward_backward"
    ),
    "contractive convolution": lambda: cells.ContractiveConv2D(
        8, contraction=0.8, activation="relu"
    ),
    "monotone convolution": lambda: cells.MonotoneConv2D(8),
    "free": lambda: cells.DenseCell(24),
    "free convolution": lambda: cells.ConvCell(8, num_groups=4),
    "multiscale": lambda: cells.MultiscaleCell([4, 4], num_groups=2),
}
PROVED = list(CELLS)[:5]


def network(name, solver=None, x=None, y=None):
    """A network for the digits, trained for a few epochs if given some."""
    keras.utils.set_random_seed(1)
    solver = solver or ks.equilibrium.Anderson(60, tol=1e-4)
    layer = ks.layers.DeepEquilibrium(CELLS[name](), solver, name="deq")
    inputs = keras.Input((8, 8, 1))
    if layer.cell.__class__.__name__.endswith("Dense") or name == "free":
        z = layer(keras.layers.Flatten()(inputs))
    else:
        z = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
        z = layer(z)
        z = z[0] if isinstance(z, list) else z
        z = keras.layers.BatchNormalization()(z)
        z = keras.layers.MaxPooling2D()(z)
        z = keras.layers.Flatten()(z)
    model = keras.Model(inputs, keras.layers.Dense(10)(z))
    if x is not None:
        model.compile(keras.optimizers.Adam(3e-3), logits_loss())
        noise = np.random.default_rng(0).normal(0, 0.25, x.shape)
        model.fit(x + noise.astype("float32"), y, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained():
    x, y = ks.datasets.load("digits", "train[:800]")
    models = {}

    def model(name):
        if name not in models:
            models[name] = network(name, x=x, y=y)
        return models[name]

    return model


def full_votes(model, x, settings):
    """Votes at the fixed points: of a solve to a residual of 1e-6."""
    layer = model.get_layer("deq")
    solver = layer.solver
    layer.solver = ks.equilibrium.FixedPointIteration(400, tol=1e-6)
    try:
        return VoteSampler(model, NOISE).count(x, **settings)
    finally:
        layer.solver = solver


@pytest.mark.slow
@pytest.mark.parametrize("name", PROVED)
def test_settled_votes_are_those_of_the_fixed_point(name, trained, digits):
    x = digits[0][:16]
    # Draws in all: 32,000, and 8,000 for convolutions.
    stop = 500 if name.endswith("convolution") else 2_000
    settings = dict(seed=3, stream=tiles.ESTIMATION, start=0, stop=stop)
    settings["batch_size"] = 1_024
    model = trained(name)
    exact = ExactSampler(model, NOISE, None, None, 400).count(x, **settings)
    full = full_votes(model, x, settings)
    missing = full.counts - exact.counts
    # What is not settled is missing, and nothing else differs.
    assert (missing >= 0).all()
    np.testing.assert_array_equal(missing.sum(axis=1), exact.unsettled)
    assert exact.unsettled.sum() == 0
    assert (exact.nan_draws == 0).all()
    assert exact.findings["steps"].mean() < 20 * stop


@pytest.mark.parametrize("name", ["contractive", "monotone"])
def test_without_the_bound_votes_are_wrong(name, trained, digits):
    # Votes taken at once, as if there were no error.
    x = digits[0][:16]
    settings = dict(seed=3, stream=tiles.ESTIMATION, start=0, stop=2_000)
    settings["batch_size"] = 1_024
    model = trained(name)
    sampler = ExactSampler(model, NOISE, None, None, 400)
    sampler.factor = sampler.share = 0.0
    votes = sampler.count(x, **settings)
    assert (full_votes(model, x, settings).counts != votes.counts).any()


def scaled_network(kind, of_state, of_logits=1.0):
    """States `of_state` times as large, logits `of_logits`: the same votes.

    "linear": class 0 where x0 > 0, by a state of memory 1 / (1 - 0.8).
    "lagging": class 0 where |x0| > 0.1, which shows after two steps.
    """
    injection = np.array([[1, -1, 0], [0, 0, 0]], "float32")
    recurrent = np.zeros((3, 3), "float32")
    head = np.zeros((3, 2), "float32")
    if kind == "linear":
        recurrent[0, 0], head[0, 0] = 0.8, 0.2
        bias, activation = 0, "linear"
    else:
        recurrent[:2, 2], head[2, 0] = 0.6, 1.0
        bias, activation = 0.06, "relu"
    cell = cells.ContractiveDense(3, activation=activation)
    layer = ks.layers.DeepEquilibrium(cell)
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), layer, dense])
    cell.injection.kernel.assign(injection * np.float32(of_state))
    cell.recurrent_kernel.assign(recurrent)
    head *= np.float32(of_logits / of_state)
    dense.set_weights([head, np.float32([0, bias * of_logits])])
    return model


@functools.cache
def scaled_result(kind, of_state=1.0, of_logits=1.0):
    model = scaled_network(kind, of_state, of_logits)
    model = ks.SmoothedModel(model, ks.noise.Gaussian(1.0))
    x = np.float32([[0.3, 0.5], [-0.3, 0.5], [1.0, 0.1], [0.0, 0.0]])
    return model.certify(x, **SETTINGS, serialized=ks.serialized.Exact())


# Powers of two, near 1e-12, 1e-18, 1e-22, 1e-30, 1e-38 and 1e18: what does not
# under- or overflow is the same, bit by bit.
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind,of_state,of_logits",
    [
        *[("linear", 2.0**k, 1.0) for k in (-40, -60, -73, -100, -126, 60)],
        *[("lagging", 2.0**k, 1.0) for k in (-73, -126)],
        *[("lagging", 1.0, 2.0**k) for k in (-126, 124)],
    ],
)
def test_votes_are_the_same_at_all_scales(kind, of_state, of_logits):
    expected = scaled_result(kind)
    result = scaled_result(kind, of_state, of_logits)
    missing = expected.counts - result.counts
    assert (missing >= 0).all()
    unsettled = result.findings["unsettled"]
    np.testing.assert_array_equal(missing.sum(axis=1), unsettled)
    if min(of_state, of_logits) > 2.0**-126:
        assert (unsettled == 0).all()
        np.testing.assert_array_equal(result.radius, expected.radius)
    if kind == "linear":
        assert (result.radius <= [0.3, 0.3, 1.0, 0.0]).all()
    else:
        assert set(result.prediction) <= {0, ks.ABSTAIN}


def test_rounding_counts_what_underflows():
    # Products near 2^-126, in the cell and in the head.
    rng = np.random.default_rng(0)
    cell = cells.ContractiveDense(64, activation="linear")
    layer = ks.layers.DeepEquilibrium(cell)
    dense = keras.layers.Dense(5)
    model = keras.Sequential([keras.Input((64,)), layer, dense])
    small = 2.0**-62 * rng.normal(size=(64, 5))
    dense.set_weights([small.astype("float32"), np.zeros(5, "float32")])
    sampler = ExactSampler(model, NOISE, None, None, 100)
    kernel = cell.constants()
    state = 2.0**-123 * rng.normal(size=(32, 64)).astype("float32")
    image = cell.iterate(np.zeros_like(state), kernel)(state)
    exact = state.astype(float) @ np.asarray(kernel, float)
    error = np.linalg.norm(np.asarray(image, float) - exact, axis=1)
    sizes = (np.linalg.norm(t, axis=1) for t in (image - state, image))
    allowed = sampler.rounding(*sizes, np.zeros(32, "float32"))
    assert (error <= np.asarray(allowed)).all()
    assert (error > 64 * 2.0**-24 * np.linalg.norm(state, axis=1)).any()
    state = 2.0**-62 * rng.normal(size=(32, 64)).astype("float32")
    logits = np.asarray(sampler.head.logits(state), float)
    error = np.abs(logits - state.astype(float) @ dense.kernel.numpy())
    slope, offset = sampler.head.rounding
    size = np.linalg.norm(state, axis=1, keepdims=True)
    assert (error <= slope * size + offset).all()
    assert (error > slope * size).any()


def test_a_head_keeps_gains_that_float32_does_not_hold():
    shrinking = [keras.layers.Rescaling(1e-25) for _ in range(2)]
    dense = keras.layers.Dense(2)
    head = Head(
        keras.Sequential(
            [
                keras.Input((2, 2, 1)),
                *shrinking,
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                dense,
            ]
        )
    )
    dense.set_weights([np.float32([[1, -1]]), np.zeros(2, "float32")])
    assert head.lipschitz[0, 1] > 0


def test_what_is_not_finite_is_never_settled():
    # Class 0 leads by infinity, or its logit is NaN.
    for weight, bias in ((3e38, 0.0), (3e38, -np.inf)):
        model = scaled_network("lagging", 1.0)
        head = np.zeros((3, 2), "float32")
        head[:, 0] = weight
        model.layers[-1].set_weights([head, np.float32([bias, 0])])
        model.layers[-2].cell.injection.kernel.assign(np.full((2, 3), 10.0))
        sampler = ExactSampler(model, NOISE, None, None, 50)
        settings = dict(seed=0, stream=1, start=0, stop=20, batch_size=64)
        votes = sampler.count(np.ones((2, 2), "float32"), **settings)
        assert (votes.counts == 0).all()
        np.testing.assert_array_equal(votes.nan_draws, 20)


def test_tiny_margins_are_settled_in_float64_and_ties_are_not():
    # Class 0 leads all others by a millionth of |z w|, where z w < 0; where it
    # is behind, all others are equal.
    model = network("contractive")
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    kernel[:, 1:] = kernel[:, :1] * np.float32(1 + 1e-6)
    dense.set_weights([kernel, bias])
    x = np.zeros((2, 8, 8, 1), "float32")
    sampler = ExactSampler(model, NOISE, None, None, 100)
    settings = dict(seed=0, stream=1, start=0, stop=200, batch_size=64)
    votes = sampler.count(x, **settings)
    kernel[:, 0] = -kernel[:, 1]
    dense.set_weights([kernel, bias])
    signs = full_votes(model, x, settings).counts
    negative = signs[:, 0]
    assert (negative > 50).all() and (negative < 150).all()
    np.testing.assert_array_equal(votes.counts[:, 0], negative)
    np.testing.assert_array_equal(votes.unsettled, 200 - negative)
    assert (votes.nan_draws == 0).all()


@pytest.mark.parametrize("name", PROVED)
def test_rounding_of_a_step_is_within_its_bound(name, trained):
    rng = np.random.default_rng(0)
    model = trained(name)
    cell = model.get_layer("deq").cell
    share, gain = cell.rounding_bounds()
    parts = split(model)
    x = rng.random((64, 8, 8, 1)).astype("float32")
    constants = cell.constants()
    injection = cell.inject(parts.before(x), constants)
    state = 3 * rng.normal(size=injection.shape).astype("float32")
    image = np.asarray(cell.iterate(injection, constants)(state))
    exact = reference_step(cell, constants, injection, state)

    def norm(z):
        return np.linalg.norm(np.reshape(z, (len(z), -1)), axis=1)

    error = norm(image - exact)
    allowed = share * (gain * norm(state) + norm(np.asarray(injection)))
    assert (error <= allowed).all() and (error > 0).any()


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
def test_rounding_of_an_activation_counts_where_all_else_is_small(activation):
    # sigmoid(d) is near 1/2 however small z and d are, and rounded there.
    cell = cells.ContractiveDense(64, activation=activation)
    layer = ks.layers.DeepEquilibrium(cell)
    model = keras.Sequential([keras.Input((64,)), layer, keras.layers.Dense(2)])
    sampler = ExactSampler(model, NOISE, None, None, 100)
    rng = np.random.default_rng(0)
    state = 1e-6 * rng.normal(size=(32, 64)).astype("float32")
    injection = 1e-6 * rng.normal(size=(32, 64)).astype("float32")
    kernel = cell.constants()
    image = cell.iterate(injection, kernel)(state)
    total = state.astype(float) @ np.asarray(kernel, float) + injection
    exact = {
        "sigmoid": lambda t: 1 / (1 + np.exp(-t)),
        "softplus": lambda t: np.log1p(np.exp(t)),
        "tanh": np.tanh,
    }[activation](total)
    error = np.linalg.norm(np.asarray(image, float) - exact, axis=1)
    allowed = sampler.rounding(
        *(np.linalg.norm(t, axis=1) for t in (image - state, image, injection))
    )
    assert (error <= np.asarray(allowed)).all() and (error > 0).any()


def reference_step(cell, constants, injection, state):
    """One step in float64, from its formula."""
    kernel, *_ = constants if isinstance(constants, tuple) else (constants,)
    kernel = np.asarray(kernel, np.float64)
    z, d = np.asarray(state, np.float64), np.asarray(injection, np.float64)
    reflects = getattr(cell, "splitting", None) == "peaceman_rachford"
    z = np.abs(z) if reflects else z
    if z.ndim == 2:
        moved = z @ kernel
    elif reflects:
        channels = z.shape[-1]
        spectrum = np.fft.fft2(z, axes=(1, 2))
        both = np.concatenate([spectrum.real, spectrum.imag], axis=-1)
        both = np.einsum("bhwi,hwij->bhwj", both, kernel)
        spectrum = both[..., :channels] + 1j * both[..., channels:]
        moved = np.fft.ifft2(spectrum, axes=(1, 2)).real
    else:
        padded = np.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (3, 3), axis=(1, 2)
        )
        moved = np.einsum("bxyihw,hwij->bxyj", windows, kernel)
    total = moved + d
    if reflects:
        return total
    if getattr(cell, "activation", None) is keras.activations.tanh:
        return np.tanh(total)
    return np.maximum(total, 0)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [],
        lambda: [keras.layers.Dense(7, activation="tanh")],
        lambda: [keras.layers.Dense(6), keras.layers.ReLU()],
        lambda: [keras.layers.Rescaling(3.0, offset=-1.0)],
        lambda: [
            keras.layers.Reshape((4, 4, 3)),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Activation("sigmoid"),
            keras.layers.Flatten(),
        ],
        lambda: [
            keras.layers.Reshape((4, 4, 3)),
            keras.layers.AveragePooling2D(3, padding="same"),
            keras.layers.Permute((3, 1, 2)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
        ],
        lambda: [
            keras.layers.Reshape((4, 4, 3)),
            keras.layers.GlobalAveragePooling2D(),
        ],
    ],
)
@pytest.mark.parametrize("end", [None, "softmax"])
def test_logits_move_no_more_than_the_head_allows(layers, end):
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [keras.Input((48,)), *layers(), keras.layers.Dense(5, activation=end)]
    )
    for weight in model.weights:
        noise = rng.normal(size=weight.shape) * 0.5
        positive = "variance" in weight.path
        weight.assign(np.abs(noise) + 0.1 if positive else noise)
    head = Head(model)
    z = rng.normal(size=(400, 48)).astype("float32")
    # Far and near, and along single coordinates: where bounds are nearly met.
    moves = [rng.normal(size=z.shape) * s for s in (1e-2, 1.0, 100.0)]
    moves.append(np.eye(48)[rng.integers(0, 48, 400)])
    logits = np.asarray(head.logits(z))
    ratios = []
    for move in moves:
        other = np.asarray(head.logits(z + move.astype("float32")))
        change = other - logits
        gain = np.abs(change[:, :, None] - change[:, None])
        distance = np.linalg.norm(move, axis=1)[:, None, None]
        slope, offset = head.rounding
        size = np.linalg.norm(z, axis=1) + np.linalg.norm(move, axis=1)
        slack = 4 * (slope.max() * size + offset.max())[:, None, None]
        assert (gain <= head.lipschitz * distance + slack).all()
        with np.errstate(invalid="ignore"):
            ratios.append(np.nanmax(gain / (head.lipschitz * distance)))
    # A bound, and no guess far above: of slopes of 1/4 it counts 1.
    assert max(ratios) > 0.05


@pytest.mark.parametrize(
    "layers,message",
    [
        ([keras.layers.LayerNormalization()], "a LayerNormalization"),
        ([keras.layers.Dense(4, activation="gelu")], "'gelu' in"),
        (
            [
                keras.layers.Reshape((4, 4, 3)),
                keras.layers.MaxPooling2D(3, strides=1),
                keras.layers.Flatten(),
            ],
            "windows that do not overlap",
        ),
    ],
)
def test_heads_without_a_bound_are_refused(layers, message):
    model = keras.Sequential(
        [keras.Input((48,)), *layers, keras.layers.Dense(3)]
    )
    with pytest.raises(ValueError, match=message):
        Head(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,start",
    [
        ("free", "clean"),
        ("monotone", "clean"),
        ("multiscale", "clean"),
        ("free", "previous"),
    ],
)
def test_audits_are_votes_of_the_network(name, start, digits):
    # All draws audited: those confirmed are the network's votes for a class.
    x = digits[0][:3]
    model = network(name)
    form = ks.serialized.Audited(300, steps=1, start=start)
    sampler = form.sampler(model, NOISE)
    claim = sampler.claim(0.01, ks.FixedSampling(300))
    sampler = sampler.tuned(x, claim)
    settings = dict(seed=2, stream=1, start=0, stop=300, batch_size=96)
    votes = sampler.count(x, **settings)
    np.testing.assert_array_equal(votes.findings["audited"], votes.counts)
    own = VoteSampler(model, NOISE).count(x, **settings)
    confirmed = votes.counts - votes.findings["disagreed"]
    assert (confirmed <= own.counts + 1).all()
    assert (votes.findings["steps"] == 300).all()
    assert votes.findings["disagreed"].sum() > 0


@pytest.mark.slow
def test_chains_are_defined_by_the_numbers_of_draws(digits):
    x = digits[0][:4]
    form = ks.serialized.Audited(100, steps=2, start="previous")
    sampler = form.sampler(network("free"), NOISE)
    claim = sampler.claim(0.01, ks.FixedSampling(1_000))
    sampler = sampler.tuned(x, claim)
    settings = dict(seed=2, stream=1, batch_size=256)
    whole = sampler.count(x, start=0, stop=700, **settings)
    parts = sampler.count(x, start=0, stop=333, **settings)
    parts = parts + sampler.count(x, start=333, stop=700, **settings)
    alone = sampler.count(x[2:3], start=0, stop=700, **settings)
    other = sampler.count(
        x, start=0, stop=700, **{**settings, "batch_size": 40}
    )
    for votes in (parts, other):
        # Up to votes that are tied by rounding.
        assert np.abs(votes.counts - whole.counts).sum() <= 2
        np.testing.assert_array_equal(
            votes.findings["audited"].sum(axis=1),
            whole.findings["audited"].sum(axis=1),
        )
    assert np.abs(alone.counts - whole.counts[2:3]).sum() <= 2


@pytest.mark.parametrize(
    "form,adaptive",
    [
        (ks.serialized.Exact(), True),
        (ks.serialized.Audited(200, steps=2), True),
        pytest.param(ks.serialized.Audited(), False, marks=pytest.mark.slow),
    ],
    ids=["exact adaptive", "audited adaptive", "pilot"],
)
def test_certificates_logs_and_resume(
    form, adaptive, trained, digits, tmp_path
):
    x, y = digits[0][:18], digits[1][:18]
    model = smoothed(trained("contractive"))
    path = tmp_path / "run.tsv"
    settings = dict(SETTINGS, serialized=form)
    if adaptive:
        stopping = ks.AdaptiveSampling([0.0, 0.2], max_n=1_000)
        settings = {**settings, "n": None, "stopping": stopping}
    result = model.certify(x, y, log=path, **settings)
    plain = model.certify(x, y, **{**settings, "serialized": None})
    assert (result.radius > 0).sum() >= 0.7 * (plain.radius > 0).sum()
    if isinstance(form, ks.serialized.Exact):
        # The solver of the plain one stops a little before the fixed point.
        assert np.mean(result.prediction == plain.prediction) > 0.9
        assert result.certified_accuracy(0.1) == pytest.approx(
            plain.certified_accuracy(0.1), abs=0.05
        )
    else:
        assert type(result.claim) is AuditedClaim
        assert (result.radius <= plain.radius + 0.05).all()
    said = []
    result.summary(print_fn=said.append)
    steps = result.findings["steps"].sum() / result.num_samples.sum()
    assert f"steps: {at_most(steps, '.4g')} per draw" in said[0]
    expected = columns_without_time(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:17]))
    model.certify(x, y, log=path, **settings)
    assert columns_without_time(path) == expected
    read = ks.read_log(path)
    np.testing.assert_array_equal(read.radius, result.radius)
    again = read.recertify(0.001)
    assert (again.radius <= result.radius).all()
    with pytest.raises(ValueError, match="of another run"):
        settings["serialized"] = None
        model.certify(x[:1], y[:1], log=path, **settings)


@pytest.mark.slow
def test_classify_abstains_where_the_votes_do_not_prove_it(trained, digits):
    x = digits[0][:24]
    model = smoothed(trained("contractive"))
    plain = model.classify(x, seed=0)
    for form in (
        ks.serialized.Exact(),
        ks.serialized.Audited(300, steps=2),
    ):
        labels = model.classify(x, seed=0, serialized=form)
        both = (labels >= 0) & (plain >= 0)
        np.testing.assert_array_equal(labels[both], plain[both])
        assert both.sum() > 15
    # So few audits rule out nothing.
    few = ks.serialized.Audited(2, steps=1)
    assert (model.classify(x, seed=0, serialized=few) == ks.ABSTAIN).all()


@pytest.mark.slow
def test_groups_and_soft_voting(trained, digits):
    x, y = digits[0][:6], digits[1][:6]
    base = trained("contractive")
    group = ks.groups.D4()
    model = smoothed(base, group=group)
    plain = model.certify(x, y, **SETTINGS)
    exact = model.certify(x, y, serialized=ks.serialized.Exact(), **SETTINGS)
    assert np.abs(exact.counts - plain.counts).sum() < 0.01 * 6_000
    # A turned image is far from the clean start, and the audits show it.
    form = ks.serialized.Audited(500, steps=1)
    audited = model.certify(x, y, serialized=form, **SETTINGS)
    assert audited.findings["disagreed"].sum() > 100
    assert (audited.radius <= plain.radius + 0.02).all()
    assert exact.distance == audited.distance == plain.distance
    soft = keras.Sequential([*base.layers, keras.layers.Softmax()])
    model = smoothed(soft, voting="soft")
    form = ks.serialized.Audited(500, steps=3)
    result = model.certify(x, y, serialized=form, **SETTINGS)
    plain = model.certify(x, y, **SETTINGS)
    assert np.abs(result.counts - plain.counts).sum() < 0.05 * 6_000
    with pytest.raises(ValueError, match="voting='hard'"):
        model.certify(x, y, serialized=ks.serialized.Exact(), **SETTINGS)


def two_layers():
    layers = [
        ks.layers.DeepEquilibrium(cells.ContractiveDense(4), name=name)
        for name in ("first", "second")
    ]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), *layers]
        + [keras.layers.Dense(10)]
    )


def around():
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    z = ks.layers.DeepEquilibrium(cells.ContractiveDense(4), name="deq")(flat)
    both = keras.layers.Concatenate()([flat, z])
    return keras.Model(inputs, keras.layers.Dense(10)(both))


@pytest.mark.parametrize(
    "base,form,message",
    [
        (small_convnet, ks.serialized.Exact(), "equilibrium layers \\[\\]"),
        (two_layers, ks.serialized.Exact(), "or the name of one"),
        (two_layers, ks.serialized.Exact("third"), "with 'third'"),
        (around, ks.serialized.Audited(), "through the layer 'deq' alone"),
        (
            lambda: network("free"),
            ks.serialized.Exact(),
            "contractive or monotone.*ks.serialized.Audited takes any cell",
        ),
        (
            lambda: network("contractive"),
            ks.serialized.Audited(5_000),
            "at most the number of draws, 1000",
        ),
    ],
)
def test_what_cannot_be_serialized_is_refused(base, form, message, digits):
    with pytest.raises(ValueError, match=message):
        smoothed(base()).certify(digits[0][:2], serialized=form, **SETTINGS)


def test_a_named_layer_is_the_one(digits):
    x = digits[0][:2]
    model = two_layers()
    for name, cell in (("first", 0), ("second", 1)):
        parts = split(model, name)
        assert parts.layer is model.layers[1 + cell]
        outputs = parts.head(parts.layer(parts.before(x)))
        np.testing.assert_allclose(outputs, model(x), rtol=1e-5, atol=1e-6)


def test_a_form_is_asked_for_by_an_object(digits):
    model = smoothed(network("contractive"))
    for run in (model.certify, model.classify):
        with pytest.raises(ValueError, match="such as ks.serialized.Exact"):
            run(digits[0][:2], n=200, serialized="exact")


def test_bad_arguments():
    for arguments, message in (
        (dict(num_audited=0), "argument `num_audited`"),
        (dict(steps=0), "argument `steps`"),
        (dict(start="zero"), "argument `start`"),
    ):
        with pytest.raises(ValueError, match=message):
            ks.serialized.Audited(**arguments)
    with pytest.raises(ValueError, match="argument `max_iter`"):
        ks.serialized.Exact(max_iter=0)


def test_a_solver_that_never_settles_is_counted_against_the_candidate(digits):
    x = digits[0][:2]
    model = smoothed(network("contractive"))
    form = ks.serialized.Exact(max_iter=1)
    result = model.certify(x, serialized=form, **SETTINGS)
    assert (result.findings["unsettled"] > 0).all()
    total = result.counts.sum(axis=1) + result.findings["unsettled"]
    np.testing.assert_array_equal(total, result.num_samples)


@pytest.mark.slow
def test_a_network_that_stops_early_is_not_its_fixed_point(tmp_path):
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((4,)),
            ks.layers.DeepEquilibrium(
                cells.ContractiveDense(16, contraction=0.95),
                ks.equilibrium.FixedPointIteration(max_iter=1),
            ),
            keras.layers.Dense(3),
        ]
    )
    model = smoothed(base)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    exact, audited = ks.serialized.Exact(), ks.serialized.Audited(100, 1)
    calls = {**SETTINGS, "log": tmp_path / "run.tsv"}
    settled = model.certify(x, serialized=exact, **calls)
    plain = model.certify(x, **SETTINGS)
    both = (settled.radius > 0) & (plain.radius > 0)
    differ = both & (settled.prediction != plain.prediction)
    assert differ.any()
    # Each is the certificate of the call that its statement names.
    for result, form in ((settled, exact), (plain, None)):
        labels = model.classify(x[differ], n=1_000, serialized=form, seed=1)
        np.testing.assert_array_equal(labels, result.prediction[differ])
    words = "the smoothed classifier (`model.classify(x{})`) answers".format
    assert words(", serialized=Exact()") in settled.statement
    assert words("") in plain.statement
    assert words("") in (
        model.certify(x[:1], serialized=audited, **SETTINGS).statement
    )
    assert ks.read_log(tmp_path / "run.tsv").statement == settled.statement
    with pytest.raises(ValueError, match="is of another run.*serialized="):
        model.certify(x, **calls)
    with ks.CertificationMemory() as memory:
        model.certify(x[:1], serialized=exact, memory=memory, **SETTINGS)
        for call in (model.certify, model.classify):
            with pytest.raises(ValueError, match="serialized=''. Received"):
                call(x[:1], memory=memory)
    with ks.CertificationMemory() as memory:
        # Audits are of the base model as it is.
        model.certify(x[:1], memory=memory, **SETTINGS)
        model.certify(x[:1], serialized=audited, memory=memory, **SETTINGS)
        with pytest.raises(ValueError, match="serialized='Exact'. Received"):
            model.classify(x[:1], serialized=exact, memory=memory)


@pytest.mark.slow
def test_what_was_proved_of_other_weights_is_not_used(digits):
    x = digits[0][:4]
    base = network("contractive")
    model = smoothed(base)
    form = ks.serialized.Exact()
    model.certify(x, serialized=form, **SETTINGS)
    assert model._sampler(form) is model._sampler(ks.serialized.Exact())
    # Of a head this large the old constants would settle votes too early.
    kernel, bias = base.layers[-1].get_weights()
    base.layers[-1].set_weights([50 * kernel, bias])
    received = model.certify(x, serialized=form, **SETTINGS)
    expected = smoothed(base).certify(x, serialized=form, **SETTINGS)
    np.testing.assert_array_equal(received.counts, expected.counts)
    for name, numbers in expected.findings.items():
        np.testing.assert_array_equal(received.findings[name], numbers)
    other = ks.serialized.Exact(max_iter=1)
    assert (
        model.certify(x, serialized=other, **SETTINGS)
        .findings["unsettled"]
        .all()
    )
