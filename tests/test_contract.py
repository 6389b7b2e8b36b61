"""What every public layer, noise and model must do, found by walking names."""

import inspect
import json
import pathlib
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from conftest import linear_model

import keras_smoothing as ks
from keras_smoothing import serving

# How to make one of each. A public class that is missing here fails. Functions,
# so that no test meets weights and seeds that another has moved on.
EXAMPLES = {
    ks.layers.GaussianNoiseAlways: lambda: dict(stddev=0.3, seed=1),
    ks.layers.LaplaceNoiseAlways: lambda: dict(scale=0.3, seed=1),
    ks.layers.UniformNoiseAlways: lambda: dict(half_width=0.3, seed=1),
    ks.layers.RSEBlock: lambda: dict(
        filters=3, kernel_size=2, stddev=0.3, seed=1
    ),
    ks.layers.DeepEquilibrium: lambda: dict(
        cell=ks.equilibrium.cells.DenseCell(4)
    ),
    ks.layers.OrbitPooling: lambda: dict(
        layer=keras.layers.Dense(3),
        group=ks.groups.Permutation("channels_last"),
    ),
    ks.noise.Gaussian: lambda: dict(sigma=0.3),
    ks.noise.Laplace: lambda: dict(scale=0.3),
    ks.noise.Uniform: lambda: dict(half_width=0.3),
    ks.noise.Distribution: lambda: dict(
        distribution=tfp.distributions.Normal(0.0, 0.3)
    ),
    ks.training.GaussianAugmentation: dict,
    ks.training.Stability: lambda: dict(gamma=3.0),
    ks.training.Consistency: lambda: dict(num_copies=3, weight=4.0, eta=0.1),
    ks.training.SmoothAdv: lambda: dict(
        epsilon=0.5, num_steps=3, num_copies=4, warmup_steps=5, bounds=(-1, 1)
    ),
    ks.training.MACER: lambda: dict(
        num_copies=3, weight=4.0, gamma=5.0, beta=6
    ),
    ks.training.DataDependent: lambda: dict(
        objective=ks.training.MACER(num_copies=3),
        num_examples=7,
        sigma_min=0.1,
        sigma_max=0.5,
        sigma_start=0.2,
        steps=2,
        learning_rate=0.1,
        num_draws=3,
        beta=4.0,
    ),
    ks.training.Denoising: lambda: dict(reconstruction=2.0, stability=3.0),
    ks.SmoothedModel: lambda: dict(
        base_model=linear_model(np.ones(6)),
        noise=ks.noise.Gaussian(0.3),
        num_draws=20,
        seed=1,
    ),
    ks.SmoothedSegmentation: lambda: dict(
        base_model=keras.Sequential(
            [
                keras.Input((6,)),
                *linear_model(np.ones(6)).layers,
                keras.layers.Reshape((1, 2)),
            ]
        ),
        noise=ks.noise.Gaussian(0.3),
        num_draws=20,
        seed=1,
    ),
    ks.SmoothedMultiLabel: lambda: dict(
        base_model=linear_model(np.ones(6)),
        noise=ks.noise.Gaussian(0.3),
        num_draws=20,
        seed=1,
        threshold=0.4,
    ),
    ks.training.Denoised: lambda: dict(
        classifier=linear_model(np.ones(6)),
        denoiser=keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)]),
    ),
    ks.SmoothedRegression: lambda: dict(
        base_model=linear_model(np.ones(6)),
        noise=ks.noise.Gaussian(0.3),
        num_draws=20,
        seed=1,
    ),
    ks.SmoothedDetector: lambda: dict(
        base_model=keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8),
                keras.layers.Reshape((2, 4)),
            ]
        ),
        noise=ks.noise.Gaussian(0.3),
        num_draws=20,
        seed=1,
    ),
    ks.RandomSelfEnsemble: lambda: dict(
        model=keras.Sequential(
            [
                keras.Input((6,)),
                ks.layers.GaussianNoiseAlways(0.3, seed=1),
                *linear_model(np.ones(6)).layers,
            ]
        ),
        num_draws=20,
        from_logits=True,
    ),
}


# The shape of an example, where it is not the one below.
SHAPES = {ks.layers.OrbitPooling: (3, 2), ks.layers.RSEBlock: (4, 4, 2)}


def example_shape(kind):
    return SHAPES.get(kind, (6,))


def example_batch(kind):
    return np.ones((5, *example_shape(kind)), "float32")


def public_objects():
    modules = [ks, ks.layers, ks.noise, ks.groups, ks.datasets]
    modules += [ks.attacks, ks.evaluation, ks.callbacks, ks.equilibrium]
    modules += [ks.equilibrium.cells, ks.applications, ks.serialized]
    modules += [ks.training, ks.report, serving]
    return {
        thing
        for module in modules
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__.startswith("keras_smoothing")
    }


def public_subclasses(base):
    return sorted(
        (
            thing
            for thing in public_objects()
            if inspect.isclass(thing)
            and issubclass(thing, base)
            and thing is not base
        ),
        key=lambda kind: kind.__name__,
    )


# These have two inputs, and tests of their own.
CELLS = public_subclasses(ks.equilibrium.cells.Cell)
LAYERS = [
    kind
    for kind in public_subclasses(keras.layers.Layer)
    if kind not in [ks.equilibrium.cells.Cell, *CELLS, ks.layers.SortedBoxes]
]
NOISES = public_subclasses(ks.noise.Noise)
OBJECTIVES = public_subclasses(ks.training.Objective)


def make(kind):
    return kind(**EXAMPLES[kind]())


def test_the_walk_finds_what_there_is():
    assert set(LAYERS + NOISES + OBJECTIVES) == set(EXAMPLES)


@pytest.mark.parametrize("kind", LAYERS + NOISES + OBJECTIVES)
def test_registered_and_config_round_trip(kind):
    thing = make(kind)
    name = keras.saving.get_registered_name(kind)
    assert name == f"keras_smoothing>{kind.__name__}"
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is kind
    assert json.dumps(copy.get_config()) == json.dumps(thing.get_config())
    assert set(inspect.signature(kind).parameters) - {"kwargs"} <= set(
        copy.get_config()
    )
    assert sorted(set(vars(copy)) ^ set(vars(thing))) == []


@pytest.mark.parametrize("kind", NOISES)
def test_noises_keep_their_draws(kind):
    copies = [make(kind), kind.from_config(make(kind).get_config())]
    draws = [np.asarray(copy.sample((3, 5), seed=2)) for copy in copies]
    np.testing.assert_array_equal(*draws)
    assert copies[0].norm in ("l1", "l2", "linf")
    np.testing.assert_array_equal(*(copy.radius(0.9) for copy in copies))


@pytest.fixture(scope="module")
def predictions_elsewhere(tmp_path_factory):
    """Saves every layer and model; predicts with all in one new process."""
    folder = tmp_path_factory.mktemp("saved")
    for kind in LAYERS:
        as_model(kind).save(folder / f"{kind.__name__}.keras")
        np.save(folder / f"{kind.__name__}.input.npy", example_batch(kind))
    script = f"""
        import pathlib
        import keras, numpy as np
        import keras_smoothing
        for path in pathlib.Path({str(folder)!r}).glob("*.keras"):
            model = keras.saving.load_model(path)
            x = np.load(path.with_suffix(".input.npy"))
            np.save(path.with_suffix(".npy"), model.predict(x, verbose=0))
    """
    script = textwrap.dedent(script)
    subprocess.run([sys.executable, "-c", script], check=True)
    return folder


def as_model(kind):
    keras.utils.set_random_seed(0)
    layer = make(kind)
    if isinstance(layer, keras.Model):
        return layer
    return keras.Sequential([keras.Input(example_shape(kind)), layer])


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
def test_saved_and_loaded_in_a_new_process(kind, predictions_elsewhere):
    there = np.load(predictions_elsewhere / f"{kind.__name__}.npy")
    here = as_model(kind).predict(example_batch(kind), verbose=0)
    np.testing.assert_allclose(there, here, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_mixed_precision(kind, policy):
    if issubclass(kind, keras.Model):
        keras.mixed_precision.set_global_policy(policy)
        layer = make(kind)  # What is inside has the policy too.
    elif kind is ks.layers.DeepEquilibrium:
        layer = kind(ks.equilibrium.cells.DenseCell(4, dtype=policy))
    elif issubclass(kind, keras.layers.Wrapper):
        inner = keras.layers.Dense(3, dtype=policy)
        layer = kind(**{**EXAMPLES[kind](), "layer": inner}, dtype=policy)
    else:
        layer = kind(**EXAMPLES[kind](), dtype=policy)
    outputs = layer(example_batch(kind))
    expected = policy.removeprefix("mixed_")
    if kind is ks.RandomSelfEnsemble:
        expected = "float32"  # Means of probabilities need its digits.
    assert keras.backend.standardize_dtype(outputs.dtype) == expected
    assert {w.dtype for w in layer.weights} <= {"float32"}


@pytest.mark.parametrize("kind", LAYERS)
def test_dynamic_batch_and_symbolic_shape(kind):
    layer, shape = make(kind), example_shape(kind)
    symbolic = layer(keras.Input(shape))
    assert symbolic.shape[0] is None
    for batch in (1, 5):
        outputs = layer(np.ones((batch, *shape), "float32"))
        assert tuple(outputs.shape) == (batch, *symbolic.shape[1:])


@pytest.mark.parametrize(
    "kind", [k for k in LAYERS if k.__name__.endswith("NoiseAlways")]
)
def test_layers_take_any_spatial_size_and_train(kind):
    model = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            make(kind),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    for size in (3, 5):
        x = np.ones((4, size, size, 2), "float32")
        model.fit(x, np.zeros(4), verbose=0)
    assert make(kind).supports_masking


def documented(thing):
    """Names in the `Args:` section of a docstring."""
    section = re.search(
        r"\n *Args:\n(.*?)(?:\n\n *\S[^\n]*:\n|\Z)", thing.__doc__, re.S
    )
    if not section:
        return []
    lines = inspect.cleandoc("\n" + section.group(1)).splitlines()
    return [m[1] for line in lines if (m := re.match(r"(\w+): ", line))]


def callables():
    for thing in sorted(public_objects(), key=lambda t: t.__qualname__):
        yield thing
        if inspect.isclass(thing):
            yield from (
                method
                for name, method in vars(thing).items()
                if inspect.isfunction(method)
                and not name.startswith("_")
                and method.__doc__
            )


@pytest.mark.parametrize("thing", callables(), ids=lambda t: t.__qualname__)
def test_documented_arguments_are_those_of_the_signature(thing):
    parameters = inspect.signature(thing).parameters
    names = [name for name in parameters if name not in ("self", "kwargs")]
    is_record = hasattr(thing, "__dataclass_fields__")
    is_record = is_record or thing is ks.equilibrium.Solution
    if is_record or thing in (ks.noise.Noise, ks.SmoothedModel.call):
        names = []
    if thing in (ks.SmoothedModel.predict_step, ks.equilibrium.cells.Cell):
        names = []
    assert documented(thing) == names


def code_blocks(text):
    return re.findall(r"```python\n(.*?)```", inspect.cleandoc(text), re.S)


def examples():
    for thing in sorted(public_objects(), key=lambda t: t.__qualname__):
        for code in code_blocks(thing.__doc__):
            yield pytest.param(code, id=thing.__qualname__)
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    yield pytest.param("\n".join(code_blocks(readme.read_text())), id="README")


@pytest.mark.parametrize("code", examples())
def test_examples_run_as_printed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<example>", "exec"), {})  # noqa: S102


def test_every_public_class_and_function_has_an_example():
    without = {
        thing.__name__
        for thing in public_objects()
        if "```python" not in (thing.__doc__ or "")
    }
    bases = {"Noise", "Group", "Solver", "Gradient", "Cell", "Objective"}
    assert without == bases | {"Plan", "RobustAccuracy", "Comparison"}
