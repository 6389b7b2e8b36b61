"""Class labels: the same forms, read alike, for every method that takes y."""

import keras
import numpy as np
import pytest
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.certificates.labels import ClassLabels

SETTINGS = dict(n=50, alpha=0.1, seed=0, verbose=0)


def forms(y, classes):
    """Everything that means the classes y."""
    one_hot = np.eye(classes)[y]
    found = {
        "column": y[..., np.newaxis],
        "uint8": y.astype("uint8"),
        "uint64 column": y.astype("uint64")[..., np.newaxis],
        "float32": y.astype("float32"),
        "one-hot of floats": one_hot,
        "one-hot of integers": one_hot.astype("int8"),
        "one-hot of bool": one_hot.astype(bool),
        "list": y.tolist(),
    }
    if classes == 2:
        found["bool"] = y.astype(bool)
        found["bool column"] = y.astype(bool)[..., np.newaxis]
    return found


def wrong_forms(y, classes):
    """What means no classes, and what the error says of it."""
    one_hot = np.eye(classes)[y].astype(bool)
    several, none = one_hot.copy(), one_hot.copy()
    several[2], none[1] = True, False
    bad = {
        r"y\[2.*\]=\[ True  True": several,
        r"y\[1.*\]=\[False False": none,
        rf"one-hot \(.*, {classes}\)": np.eye(classes + 1)[y],
        "dtype <U": y.astype(str),
    }
    for value in (-2, classes, 2**40, 0.5, np.nan, np.inf):
        changed = y.astype("float64" if isinstance(value, float) else "int64")
        changed[1] = value
        shown = f"{value:.0f}" if value == 2**40 else str(value)
        bad[rf"integers (from|>=) 0.*y\[1.*\]={shown}"] = changed
    if classes > 2:
        bad["True and False tell two apart"] = y.astype(bool)
    return bad


@pytest.fixture(scope="module", params=[2, 3])
def problem(request):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((8, 4)).astype("float32")
    y = np.arange(8) % request.param
    base = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(request.param)]
    )
    return base, x, y, request.param


def methods(base, x):
    """What each method makes of labels; equal labels give equal arrays."""
    model = smoothed(base)

    def robust_accuracy(y):
        def attack(model, x, y, strength, num_draws):
            assert y.dtype == np.int64 and y.shape == (len(x),)
            return x

        return ks.evaluation.robust_accuracy(
            base, x, y, attack, [0.0, 0.1]
        ).correct

    return {
        "certify": lambda y: model.certify(x, y, **SETTINGS).label,
        "l2_pgd": lambda y: ks.attacks.l2_pgd(
            *(base, x, y, 0.1),
            num_draws=1,
            num_steps=1,
            from_logits=True,
            verbose=0,
        ),
        "robust_accuracy": robust_accuracy,
    }


@pytest.mark.slow
def test_every_method_reads_every_form(problem):
    base, x, y, classes = problem
    for method, results in methods(base, x).items():
        expected = results(y)
        for name, form in forms(y, classes).items():
            np.testing.assert_array_equal(
                results(form), expected, f"{method}, {name}"
            )


@pytest.mark.parametrize("method", ["certify", "l2_pgd", "robust_accuracy"])
def test_every_method_refuses_alike(problem, method):
    base, x, y, classes = problem
    for message, bad in wrong_forms(y, classes).items():
        with pytest.raises(ValueError, match=message):
            methods(base, x)[method](bad)


@pytest.mark.parametrize("classes", [2, 3])
def test_masks_have_the_same_forms(classes):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.random((3, 4, 5, 1)).astype("float32")
    y = rng.integers(0, classes, (3, 4, 5))
    model = ks.SmoothedSegmentation(
        keras.Sequential(
            [keras.Input((4, 5, 1)), keras.layers.Conv2D(classes, 1)]
        ),
        ks.noise.Gaussian(0.25),
    )
    for name, form in forms(y, classes).items():
        label = model.certify(x, form, **SETTINGS).label
        np.testing.assert_array_equal(label, y, name)
    for message, bad in wrong_forms(y, classes).items():
        with pytest.raises(ValueError, match=message):
            model.certify(x, bad, **SETTINGS)


def test_several_labels_of_each_are_no_one_hot():
    keras.utils.set_random_seed(0)
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x, y = np.zeros((3, 4), "float32"), np.eye(3, dtype=int)
    model = ks.SmoothedMultiLabel(base, ks.noise.Gaussian(0.25))
    for form in (y, y.astype(bool), y.astype("float32"), y[..., None]):
        label = model.certify(x, form, **SETTINGS).label
        np.testing.assert_array_equal(label, y)


def test_errors_number_the_examples_of_a_dataset():
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    tf = pytest.importorskip("tensorflow")
    x, y = np.zeros((9, 4), "float32"), np.array([0] * 7 + [3, 0])
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    with pytest.raises(ValueError, match=r"y\[7\]=3"):
        smoothed(base).certify(dataset, **SETTINGS)


def test_labels_of_a_model_that_was_not_built_are_read_once_it_is():
    base = keras.Sequential([keras.layers.Dense(3)])
    x = np.zeros((3, 4), "float32")
    with pytest.raises(ValueError, match=r"one-hot \(3, 3\)"):
        smoothed(base).certify(x, np.eye(4)[:3], **SETTINGS)


def test_the_type_says_how_many_there_are():
    y = np.array([0, 1])
    assert ClassLabels().read(y, range(2)).dtype == np.int64
    assert ClassLabels(axes=1).read(y[None], range(1)).dtype == np.int32
    assert ClassLabels().read(None, range(2)).tolist() == [None, None]
