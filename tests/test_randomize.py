"""Noise before every convolution of existing models."""

import keras
import numpy as np
import pytest
from conftest import logits_loss
from conftest import small_convnet

import keras_smoothing as ks

layers = keras.layers


def residual():
    """Two convolutions see the input: one of them in the shortcut."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(2.0)(inputs)
    y = layers.Conv2D(4, 3, padding="same", name="first")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Conv2D(4, 3, padding="same", name="second")(y)
    shortcut = layers.Conv2D(4, 1, name="shortcut")(x)
    y = layers.ReLU()(layers.Add()([y, shortcut]))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(y)))


def nested():
    """A block in a model, which itself holds a Sequential."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", name="inner"),
        ],
        name="inside",
    )
    inputs = keras.Input((8, 8, 1))
    y = inner(layers.Conv2D(4, 3, padding="same", name="outer")(inputs))
    block = keras.Model(inputs, y, name="block")
    inputs = keras.Input((8, 8, 1))
    y = layers.Flatten()(block(layers.Rescaling(0.5)(inputs)))
    return keras.Model(inputs, layers.Dense(10)(y), name="whole")


def shared():
    """One convolution and one nested model, each called twice."""
    block = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same", name="c")],
        name="block",
    )
    inputs = keras.Input((8, 8, 2))
    convolution = layers.Conv2D(2, 3, padding="same", name="twice")
    # The first of the block's two places sees no input, the second does.
    y = block(convolution(convolution(inputs)))
    y = block(layers.Add()([inputs, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(y)), name="m")


INSERTED = {
    small_convnet: {"conv": 0.2},
    residual: {"first": 0.2, "second": 0.1, "shortcut": 0.2},
    nested: {"outer": 0.2, "inner": 0.1},
    shared: {"twice": 0.2, "twice again": 0.1, "c": 0.2},
}


@pytest.fixture(params=list(INSERTED))
def case(request):
    keras.utils.set_random_seed(0)
    model = request.param()
    rng = np.random.default_rng(0)
    x = rng.random((6, *model.input_shape[1:])).astype("float32")
    return model, x, sorted(INSERTED[request.param].values())


def noise_stddevs(model, seen=None):
    """Of all noise layers of a model, those of nested models included."""
    found = []
    for layer in model.layers:
        if isinstance(layer, ks.layers.GaussianNoiseAlways):
            found.append(layer.stddev)
        elif isinstance(layer, keras.Model):
            found += noise_stddevs(layer)
    return sorted(found)


def test_every_convolution_gets_noise(case):
    model, _, stddevs = case
    assert noise_stddevs(ks.randomize(model)) == stddevs


def test_without_noise_it_is_the_same_function(case):
    # Same layers, same weights: only the noise is new.
    model, x, _ = case
    randomized = ks.randomize(model, 0.0, 0.0, verbose=False)
    np.testing.assert_array_equal(randomized(x), model(x))
    assert randomized.count_params() == model.count_params()
    noisy = ks.randomize(model, verbose=False)
    assert not np.array_equal(noisy(x), noisy(x))


def test_the_model_stays_as_it_is(case):
    model, x, _ = case
    weights, before = model.get_weights(), np.array(model(x))
    names = [layer.name for layer in model.layers]
    randomized = ks.randomize(model, verbose=False)
    randomized.compile("adam", logits_loss())
    randomized.fit(x, np.arange(6), verbose=0)
    np.testing.assert_array_equal(before, np.array(model(x)))
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert names == [layer.name for layer in model.layers]


def test_it_saves_and_loads(case, tmp_path):
    model, x, stddevs = case
    ks.randomize(model, verbose=False).save(tmp_path / "noisy.keras")
    loaded = keras.saving.load_model(tmp_path / "noisy.keras")
    assert noise_stddevs(loaded) == stddevs
    silent = ks.randomize(model, 0.0, 0.0, verbose=False)
    silent.save(tmp_path / "silent.keras")
    loaded = keras.saving.load_model(tmp_path / "silent.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_it_says_what_it_inserted(capsys):
    ks.randomize(nested(), init_stddev=0.3, inner_stddev=0.05)
    assert capsys.readouterr().out.splitlines() == [
        "Always-on noise before 2 convolutions",
        "  whole/block/outer: stddev 0.3",
        "  whole/block/inside/inner: stddev 0.05",
    ]


def test_of_a_deep_model_it_says_the_ends_and_all_when_asked(capsys):
    def printed(depth, verbose):
        model = keras.Sequential([keras.Input((4, 4, 1))], name="deep")
        for i in range(depth):
            model.add(layers.Conv2D(1, 1, name=f"c{i}"))
        ks.randomize(model, verbose=verbose)
        return capsys.readouterr().out.splitlines()

    every = printed(9, verbose=2)
    assert every[0] == "Always-on noise before 9 convolutions"
    assert every[1:] == [
        f"  deep/c{i}: stddev {0.1 if i else 0.2}" for i in range(9)
    ]
    for verbose in (1, True):
        few = printed(9, verbose)
        assert few == [*every[:4], "  ... 3 more", *every[-3:]]
    # A line is not replaced by one that says that it is missing.
    assert printed(7, verbose=1) == printed(7, verbose=2)
    for verbose in (0, False):
        assert printed(9, verbose) == []


class Subclassed(keras.Model):
    def __init__(self, silent=True):
        super().__init__()
        self.noise = ks.layers.GaussianNoiseAlways(0.0 if silent else 0.1)
        self.convolution = layers.Conv2D(2, 3)

    def call(self, inputs):
        return self.convolution(self.noise(inputs))


def test_what_is_advised_for_subclassed_models_works():
    x = np.ones((2, 4, 4, 1), "float32")
    model = Subclassed()
    for _ in ("not called", "called"):
        with pytest.raises(ValueError, match="own `call`") as error:
            ks.randomize(model)
        model(x)
    for advice in ("functional API", "GaussianNoiseAlways", "add_input_noise"):
        assert advice in str(error.value)
    np.testing.assert_array_equal(model(x), model(x))
    noisy = ks.add_input_noise(model, ks.noise.Gaussian(0.1))
    for random in (noisy, Subclassed(silent=False)):
        assert not np.array_equal(random(x), random(x))
    # Others are not told of a `call` that they do not have.
    with pytest.raises(ValueError) as error:
        ks.randomize(keras.Sequential([layers.Conv2D(2, 3)]))
    assert "own `call`" not in str(error.value)


def test_noise_has_its_deviation_at_the_convolution():
    # A 1x1 convolution by 1 passes the noise on.
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(1, 1, kernel_initializer="ones"),
            layers.Conv2D(1, 1, kernel_initializer="ones"),
        ]
    )
    noisy = ks.randomize(model, 0.3, 0.4, verbose=False)
    outputs = np.array(noisy(np.zeros((2_000, 4, 4, 1), "float32")))
    assert outputs.std() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    "layer,shape",
    [
        (layers.Conv1D(2, 3), (8, 2)),
        (layers.Conv3D(2, 3), (4, 4, 4, 2)),
        (layers.Conv2DTranspose(2, 3), (4, 4, 2)),
        (layers.DepthwiseConv2D(3), (4, 4, 2)),
        (layers.SeparableConv2D(2, 3), (4, 4, 2)),
        (layers.TimeDistributed(layers.Conv2D(2, 3)), (3, 4, 4, 2)),
        (layers.ConvLSTM2D(2, 3), (3, 4, 4, 2)),
    ],
    ids=lambda v: v.name if isinstance(v, layers.Layer) else "",
)
def test_all_kinds_of_convolution(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    assert noise_stddevs(ks.randomize(model, verbose=False)) == [0.2]


def test_a_model_of_keras_applications():
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5
    )
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    silent = ks.randomize(model, 0.0, 0.0, verbose=False)
    np.testing.assert_array_equal(silent(x), model(x))
    stddevs = noise_stddevs(ks.randomize(model, verbose=False))
    assert stddevs.count(0.2) == 1 and stddevs.count(0.1) == 51


def test_noise_layers_keep_the_precision_of_the_model():
    with keras.device("cpu"):
        model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                layers.Conv2D(2, 3, dtype="mixed_bfloat16"),
            ]
        )
    noisy = ks.randomize(model, verbose=False)
    assert noisy.layers[1].dtype_policy.name == "mixed_bfloat16"


def test_adapted_layers_and_functions_come_along():
    normalization = layers.Normalization(axis=-1)
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (50, 4, 4, 2)))
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            normalization,
            layers.Lambda(lambda x: 2 * x),
            layers.Conv2D(2, 3),
        ]
    )
    x = np.random.default_rng(1).normal(3, 2, (5, 4, 4, 2)).astype("float32")
    silent = ks.randomize(model, 0.0, 0.0, verbose=False)
    np.testing.assert_array_equal(silent(x), model(x))


def test_a_randomized_model_is_recognised():
    noisy = ks.randomize(small_convnet(), verbose=False)
    with pytest.warns(UserWarning, match="has always-on noise already"):
        ks.randomize(noisy, verbose=False)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(model=layers.Conv2D(2, 3)), "Sequential or functional"),
        (
            dict(model=keras.Sequential([keras.Input((4,)), layers.Dense(2)])),
            "which has none; keras_smoothing.add_input_noise",
        ),
        (dict(init_stddev=-0.1), "Expected a finite number >= 0"),
        (dict(inner_stddev=-0.1), "Expected a finite number >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.randomize(**{"model": residual(), **arguments})
