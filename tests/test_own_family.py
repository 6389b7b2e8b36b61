"""The family of certificates that the guide adds: it is run as it stands."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import ndtr
from scipy.special import ndtri

import keras_smoothing as ks
from keras_smoothing import certify
from keras_smoothing.sampling import OutputSampler

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "extend.md"
NOISE = ks.noise.Gaussian(0.5)


@pytest.fixture(scope="module")
def family():
    """The names that the guide's code defines."""
    _, _, text = GUIDE.read_text().partition("## A family of certificates")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) < 60
    names = {"keras": keras, "ks": ks, "np": np, "__name__": "guide"}
    exec(code, names)
    return names


@keras.saving.register_keras_serializable(package="tests")
class Step(keras.layers.Layer):
    """1 where the first number is above 0, else 0."""

    def call(self, x):
        return ops.cast(x[:, :1] > 0, "float32")


def task(family, **settings):
    base = keras.Sequential([keras.Input((3,)), Step()])
    claim = family["MeanClaim"](NOISE, 0.001, 4_000, 0.25)
    return family["Means"](OutputSampler(base, NOISE), claim, **settings)


def examples(count=20):
    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    return x, certify.Dataset(x, shape=(3,))


def test_bounds_hold_the_worst_means_of_a_step(family):
    x, data = examples()
    result = certify.run(task(family, seed=0), data, verbose=0)
    steps = x[:, 0].astype("float64") / 0.5
    assert np.all(result.lower <= ndtr(steps - 0.25 / 0.5))
    assert np.all(result.upper >= ndtr(steps + 0.25 / 0.5))
    # And are no wider than the bound on the mean makes them.
    slack = np.sqrt(np.log(2 / 0.001) / 8_000)
    mean = np.clip(result.prediction - slack, 1e-9, 1)
    np.testing.assert_allclose(
        result.lower,
        np.where(mean > 1e-9, ndtr(ndtri(mean) - 0.5), 0),
        atol=1e-9,
    )


def test_its_logs_are_resumed_and_read(family, tmp_path):
    _, data = examples(40)
    path = tmp_path / "means.tsv"
    whole = certify.run(task(family, seed=0), data, log=path, verbose=0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:18]))
    again = certify.run(task(family), data, log=path, verbose=0)
    read = ks.read_log(path)
    for result in (again, read):
        np.testing.assert_array_equal(result.lower, whole.lower)
        np.testing.assert_array_equal(result.upper, whole.upper)
        assert result.statement == whole.statement
    path.write_bytes(path.read_bytes().replace(b"\t0.", b"\t1.", 1))
    with pytest.raises(ValueError, match="changed or moved"):
        ks.read_log(path)
