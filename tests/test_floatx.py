"""Every main path once, where Keras's default type is not float32."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import smoothed
from keras import ops

import keras_smoothing as ks

cells = ks.equilibrium.cells
training = ks.training

# The default type, and that of layers: Keras keeps to the policy with which it
# made its first layer, so that the two may differ.
DEFAULTS = [("float64", "float64"), ("float64", "float32")]
HALF = ("float16", "float16")


def set_defaults(floatx, policy):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)


def slow(defaults):
    return pytest.param(defaults, marks=pytest.mark.slow)


@pytest.fixture(
    params=[DEFAULTS[0], slow(DEFAULTS[1]), slow(HALF)], ids="-".join
)
def defaults(request):
    set_defaults(*request.param)
    return request.param


@pytest.fixture(params=[*DEFAULTS, HALF], ids="-".join)
def each_default(request):
    set_defaults(*request.param)
    return request.param


def vectors():
    x = np.random.default_rng(0).random((12, 4))
    return x.astype("float32"), np.arange(12) % 3


def images():
    x = np.random.default_rng(0).random((6, 4, 4, 1))
    return x.astype("float32"), np.arange(6) % 3


def classifier(activation=None, **kwargs):
    dense = keras.layers.Dense(3, activation=activation, **kwargs)
    return keras.Sequential([keras.Input((4,)), dense])


def compiled(model, loss=None, **kwargs):
    # Adam's epsilon is nothing in half precision.
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, **kwargs)
    return model


def check_training(model, x, y):
    history = model.fit(x, y, batch_size=6, epochs=1, verbose=0).history
    assert all(np.isfinite(value).all() for value in history.values())
    assert np.isfinite(
        model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    )
    return history


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_a_classifier_trains_and_certifies(each_default, voting, tmp_path):
    x, y = vectors()
    activation = "softmax" if voting == "soft" else None
    model = smoothed(
        classifier(activation), num_draws=20, seed=0, voting=voting
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=voting == "hard"
    )
    check_training(compiled(model, loss), x, y)
    shares = model.predict(x, verbose=0)
    assert shares.dtype == "float32"
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert set(model.classify(x, n=100, seed=0)) <= {-1, 0, 1, 2}
    result = model.certify(x, y, n=200, seed=0, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    again = loaded.certify(x, y, n=200, seed=0, verbose=0)
    np.testing.assert_array_equal(result.radius, again.radius)


def test_a_group_of_images(defaults):
    x, y = images()
    base = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    group = ks.groups.D4("channels_last")
    model = compiled(smoothed(base, num_draws=5, group=group))
    check_training(model, x, y)
    assert model.predict(x, verbose=0).sum(axis=1) == pytest.approx(1)
    turned = np.rot90(x, axes=(1, 2))
    results = [model.certify(x, n=100, seed=0, verbose=0) for x in (x, turned)]
    assert len(results[1].radius) == len(x)
    pooled = ks.layers.OrbitPooling(base, group)
    pooled = [ops.convert_to_numpy(pooled(x)) for x in (x, turned)]
    np.testing.assert_allclose(*pooled, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "objective",
    [
        training.Stability(),
        training.Consistency(),
        training.SmoothAdv(0.5, warmup_steps=2),
        training.MACER(num_copies=4),
        training.DataDependent(training.MACER(num_copies=2), 12, 0.1, 1.0),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_objectives(defaults, objective):
    x, y = vectors()
    check_training(compiled(smoothed(classifier()), objective=objective), x, y)


def test_a_denoiser(defaults):
    x, y = images()
    base = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    denoiser = ks.applications.dncnn((4, 4, 1), depth=3, filters=2)
    # Pixels are not rounded to half precision.
    expected = "float64" if defaults[1] == "float64" else "float32"
    assert denoiser.inputs[0].dtype == denoiser.outputs[0].dtype == expected
    model = smoothed(training.Denoised(base, denoiser), num_draws=5)
    history = check_training(
        compiled(model, objective=training.Denoising()), x, y
    )
    assert {"reconstruction_loss", "stability_loss"} <= set(history)
    model.certify(x[:2], n=100, seed=0, verbose=0)


@pytest.mark.parametrize("kind", ["common", "each"])
def test_a_sigma_for_each_example(defaults, kind):
    x, _ = vectors()
    model = smoothed(classifier())
    search = ks.DataDependentSigma(0.1, 1.0, steps=3, num_draws=10)
    if kind == "each":
        search = ks.ANCER(search, steps=3)
    found = search.search(model, x[:2])
    assert np.all((0.0999 < found.sigma) & (found.sigma < 1.0001))
    with ks.CertificationMemory() as memory:
        arguments = dict(sigma=search, memory=memory, n=100, seed=0, verbose=0)
        result = model.certify(x[:2], **arguments)
        again = model.certify(x[:2], **arguments)
    np.testing.assert_array_equal(result.prediction, again.prediction)


def test_a_class_of_each_pixel(defaults):
    x, _ = images()
    base = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 1)])
    model = ks.SmoothedSegmentation(base, ks.noise.Gaussian(0.25), num_draws=5)
    check_training(compiled(model), x, (x[..., 0] > 0.5).astype("int32"))
    assert model.predict(x, verbose=0).shape == (6, 4, 4, 2)
    model.certify(x[:2], n=100, alpha=0.05, seed=0, verbose=0)


def test_labels(defaults):
    x, _ = vectors()
    model = ks.SmoothedMultiLabel(
        classifier("sigmoid"), ks.noise.Gaussian(0.25), num_draws=5
    )
    y = (x[:, :3] > 0.5).astype("float32")
    check_training(compiled(model, "binary_crossentropy"), x, y)
    assert model.predict(x, verbose=0).shape == (12, 3)
    model.certify(x[:2], y[:2], n=100, alpha=0.05, seed=0, verbose=0)


def test_numbers(each_default):
    x, _ = vectors()
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(0.25), num_draws=5)
    check_training(compiled(model, "mse"), x, x.sum(axis=1))
    assert model.predict(x, verbose=0).shape == (12, 1)
    model.certify(x[:2], radii=[0.0, 0.1], n=200, alpha=0.05, seed=0, verbose=0)


def test_boxes(defaults):
    x, _ = images()
    image = keras.Input((4, 4, 1))
    features = keras.layers.Flatten()(image)
    boxes = keras.layers.Reshape((3, 4))(keras.layers.Dense(12)(features))
    scores = keras.layers.Dense(3, activation="sigmoid")(features)
    boxes = ks.layers.SortedBoxes(max_boxes=2, score_threshold=0.1)(
        boxes, scores
    )
    model = ks.SmoothedDetector(
        keras.Model(image, boxes), ks.noise.Gaussian(0.25), num_draws=5
    )
    assert model.predict(x, verbose=0).shape == (6, 2, 4)
    model.certify(x[:2], radii=[0.0, 0.1], n=200, alpha=0.05, seed=0, verbose=0)


def test_several_inputs_and_noise_in_front(defaults):
    x, y = vectors()
    image = keras.Input((4,), name="image")
    age = keras.Input((1,), name="age", dtype="float32")
    joined = keras.layers.Concatenate()([image, age])
    base = keras.Model([image, age], keras.layers.Dense(3)(joined))
    model = ks.SmoothedModel(
        base, {"image": ks.noise.Gaussian(0.25)}, num_draws=5
    )
    both = {"image": x, "age": x[:, :1]}
    check_training(compiled(model), both, y)
    assert model.predict(both, verbose=0).shape == (12, 3)
    model.certify(both, n=100, seed=0, verbose=0)
    noisy = ks.add_input_noise(classifier(), ks.noise.Laplace(0.1))
    compiled(noisy).fit(x, y, verbose=0)
    ks.SmoothedModel(noisy).certify(x, n=100, seed=0, verbose=0)


@pytest.mark.slow
def test_a_self_ensemble_and_attacks(defaults):
    x, y = images()
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            ks.layers.RSEBlock(2, 3, stddev=0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    ensemble = ks.RandomSelfEnsemble(base, num_draws=3, from_logits=True)
    sums = ensemble.predict(x, verbose=0).sum(axis=1)
    assert sums == pytest.approx(1, abs=1e-3)
    compiled(ensemble, "sparse_categorical_crossentropy").fit(x, y, verbose=0)
    attacked = ks.attacks.l2_pgd(ensemble, x, y, 0.5, num_steps=2, verbose=0)
    moved = np.linalg.norm((attacked - x).reshape(6, -1), axis=1)
    assert np.all((0.1 < moved) & (moved < 0.501))
    attacked = ks.attacks.carlini_wagner(
        ensemble, x, y, c=1.0, num_steps=2, verbose=0
    )
    assert attacked.dtype == "float32" and np.isfinite(attacked).all()
    plain = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, padding="same")]
    )
    randomized = ks.randomize(plain, 0.1)
    assert np.isfinite(randomized.predict(x, verbose=0)).all()


@keras.saving.register_keras_serializable()
class PlainCell(keras.layers.Layer):
    """A contraction that is no `Cell`, with a state of the shape of x."""

    def call(self, z, x):
        return ops.tanh(z / 2 + x)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape


SOLVERS = {
    "anderson": ks.equilibrium.Anderson,
    "broyden": ks.equilibrium.Broyden,
    "plain": ks.equilibrium.FixedPointIteration,
}
GRADIENTS = {
    "implicit": ks.equilibrium.Implicit,
    "one_step": ks.equilibrium.OneStep,
    "phantom": ks.equilibrium.Phantom,
    "unrolled": ks.equilibrium.Unrolled,
}
DENSE = {
    "plain": PlainCell,
    "dense": lambda: cells.DenseCell(4),
    "contractive": lambda: cells.ContractiveDense(4),
    "monotone": lambda: cells.MonotoneDense(4),
    "forward": lambda: cells.MonotoneDense(4, splitting="forward_backward"),
}
IMAGES = {
    "contractive": lambda: cells.ContractiveConv2D(2),
    "monotone": lambda: cells.MonotoneConv2D(2),
    "forward": lambda: cells.MonotoneConv2D(2, splitting="forward_backward"),
    "convolutional": lambda: cells.ConvCell(2, num_groups=2),
    "multiscale": lambda: cells.MultiscaleCell(
        [2, 2], expansion=1, num_groups=2
    ),
}


CASES = [
    # Each cell, solver and gradient once at least.
    (DENSE, "plain", "broyden", "phantom"),
    (DENSE, "dense", "anderson", "implicit"),
    (DENSE, "contractive", "plain", "unrolled"),
    (DENSE, "monotone", "plain", "implicit"),
    (DENSE, "forward", "plain", "one_step"),
    (IMAGES, "contractive", "plain", "implicit"),
    (IMAGES, "monotone", "plain", "phantom"),
    (IMAGES, "forward", "plain", "one_step"),
    (IMAGES, "convolutional", "plain", "implicit"),
    (IMAGES, "multiscale", "plain", "one_step"),
]


@pytest.mark.parametrize(
    "each_default, choices, cell, solver, gradient",
    [
        *((DEFAULTS[0], *case) for case in CASES[:-1]),
        *((defaults, *CASES[1]) for defaults in (DEFAULTS[1], HALF)),
        *(
            pytest.param(*rest, marks=pytest.mark.slow)
            for rest in (
                (DEFAULTS[0], *CASES[-1]),
                *((DEFAULTS[1], *case) for case in CASES[2:6]),
                *((HALF, *case) for case in (CASES[0], *CASES[2:6])),
            )
        ),
    ],
    indirect=["each_default"],
)
def test_equilibria(each_default, choices, cell, solver, gradient):
    policy = each_default[1]
    wide = "float64" if policy == "float64" else "float32"
    # Out of reach of float32, and within that of float16.
    tol = 1e-10 if wide == "float64" else 1e-2
    x, _ = vectors() if choices is DENSE else images()
    # Nothing is proved of these cells, which need not converge.
    proved = cell not in ("convolutional", "multiscale")
    steps = 300 if proved else 3
    layer = ks.layers.DeepEquilibrium(
        choices[cell](),
        SOLVERS[solver](steps, tol),
        GRADIENTS[gradient](),
        jacobian_weight=0.1,
    )
    inputs = keras.Input(x.shape[1:])
    z, solution = layer(x, return_solution=True)
    _, symbolic = layer(inputs, return_solution=True)
    assert {leaf.dtype.name for leaf in keras.tree.flatten(z)} == {policy}
    for found in (solution, symbolic):
        residual, trace = map(
            keras.backend.standardize_dtype,
            (found.residual.dtype, found.trace.dtype),
        )
        assert residual == trace == wide
    if proved:
        assert np.all(solution.status == ks.equilibrium.CONVERGED)
    features = keras.layers.Flatten()(keras.tree.flatten(layer(inputs))[0])
    outputs = keras.layers.Dense(1)(features)
    model = compiled(keras.Model(inputs, outputs), "mse")
    y = x.reshape(len(x), -1).sum(axis=1)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])


def test_radius_and_size_of_jacobians(each_default):
    x, _ = vectors()
    cell = cells.DenseCell(4)
    z = cell(cell.init_state(x), x)
    radius = ks.equilibrium.spectral_radius(cell.bind(x), z, num_steps=10)
    assert radius.dtype == "float32" and np.isfinite(radius).all()
    penalty = ks.equilibrium.jacobian_penalty(cell.bind(x), z)
    wide = "float64" if each_default[1] == "float64" else "float32"
    assert penalty.dtype == wide and np.isfinite(penalty)


def equilibrium_network(**kwargs):
    return keras.Sequential(
        [
            keras.Input((4,)),
            ks.layers.DeepEquilibrium(cells.ContractiveDense(4, **kwargs)),
            keras.layers.Dense(3, **kwargs),
        ]
    )


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_exact_serialized_smoothing_takes_float32_alone(dtype):
    x, _ = vectors()
    model = smoothed(equilibrium_network(dtype=dtype))
    with pytest.raises(ValueError, match=f"a cell in {dtype}"):
        model.certify(x, n=100, serialized=ks.serialized.Exact())


def test_exact_serialized_smoothing_of_a_float32_model(defaults):
    x, _ = vectors()
    model = smoothed(equilibrium_network(dtype="float32"))
    form = ks.serialized.Exact()
    result = model.certify(x, n=100, serialized=form, seed=0, verbose=0)
    assert result.findings["unsettled"].sum() == 0


@pytest.mark.slow
def test_audited_serialized_smoothing(defaults):
    x, _ = vectors()
    sigma = ks.DataDependentSigma(0.1, 1.0, steps=2, num_draws=10)
    form = ks.serialized.Audited(num_audited=50, steps=1)
    model = smoothed(equilibrium_network())
    with ks.CertificationMemory() as memory:
        result = model.certify(
            x[:3],
            n=200,
            serialized=form,
            sigma=sigma,
            memory=memory,
            seed=0,
            verbose=0,
        )
    assert "disagreed" in result.findings


def test_warm_starts_and_truncation(defaults):
    x, _ = vectors()
    model = equilibrium_network()
    stream = ks.serialized.WarmStart(model)
    for _ in range(2):
        answers = stream(x)
    np.testing.assert_allclose(answers, model(x), rtol=0.05, atol=0.05)
    short = ks.serialized.truncate(model, steps=2, start="learned", x=x)
    smoothed(short).certify(x[:2], n=100, seed=0, verbose=0)


def test_mdeq(defaults):
    x, y = images()
    model = ks.applications.mdeq_small(
        (4, 4, 1), 3, solver="fixed_point_iteration"
    )
    wide = "float64" if defaults[1] == "float64" else "float32"
    assert model.outputs[0].dtype == wide
    assert np.isfinite(model.predict(x, verbose=0)).all()


def test_an_exported_model_certifies_the_same(defaults, tmp_path, monkeypatch):
    x, _ = vectors()
    model = smoothed(classifier("softmax"), num_draws=5, voting="soft")
    model.export(tmp_path, verbose=False)
    monkeypatch.syspath_prepend(tmp_path / "assets.extra")
    from certificates import SmoothedClassifier

    exported = SmoothedClassifier(tmp_path)
    found = exported.certify(x, n=200, seed=0)
    expected = model.certify(x, n=200, seed=0, verbose=0)
    np.testing.assert_array_equal(found.radius, expected.radius)
    assert exported.predict(x).sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("voting", ["hard", "soft"])
@pytest.mark.parametrize(
    "noise",
    [ks.noise.Gaussian(0.5), ks.noise.Laplace(0.3), ks.noise.Uniform(0.5)],
    ids=str,
)
def test_votes_of_a_float32_model_do_not_depend_on_floatx(voting, noise):
    x, _ = vectors()
    weights = np.random.default_rng(1).normal(size=(4, 3)), np.zeros(3)
    found = {}
    for floatx in ("float32", "float64"):
        set_defaults(floatx, floatx)
        base = classifier("softmax", dtype="float32")
        base.set_weights(weights)
        model = ks.SmoothedModel(base, noise, voting=voting)
        found[floatx] = model.certify(x, n=500, seed=0, verbose=0)
    votes = [result.counts for result in found.values()]
    np.testing.assert_array_equal(*votes)


def test_a_float64_model_among_float32_ones():
    x, y = vectors()
    model = compiled(smoothed(classifier(dtype="float64"), num_draws=5))
    check_training(model, x, y)
    assert model.predict(x, verbose=0).shape == (12, 3)
    model.certify(x, n=100, seed=0, verbose=0)


def test_noise_of_the_default_type_is_float32_or_refused(each_default):
    class Own(ks.noise.Gaussian):
        def sample(self, shape, seed):
            return self.sigma * keras.random.normal(shape, seed=seed)

    x, _ = vectors()
    model = ks.SmoothedModel(classifier(), Own(0.25), num_draws=5)
    if each_default[0] == "float16":
        with pytest.raises(ValueError, match="draws in float32"):
            model.certify(x, n=100, seed=0, verbose=0)
    else:
        model.certify(x, n=100, seed=0, verbose=0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test_soft_voting.py", marks=pytest.mark.slow),
        pytest.param("test_smoothed_model.py", marks=pytest.mark.slow),
        pytest.param("test_equilibrium_gradients.py", marks=pytest.mark.slow),
    ],
)
def test_a_whole_file_under_float64(name, tmp_path):
    """What the package promises of float32 holds in the other default type."""
    settings = {"floatx": "float64", "backend": "tensorflow"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    path = pathlib.Path(__file__).parent / name
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path],
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
