"""The same certificates as ever: bit by bit where arithmetic is the same."""

import json

import keras
import numpy as np
import pytest
from golden import cases

GOLDEN = json.loads(cases.PATH.read_text())
SAME_ARITHMETIC = GOLDEN["machine"] == cases.machine()
# Rounding elsewhere moves some votes that are nearly tied, of 2,000 at most,
# and what is proved from them.
VOTES = 3


def assert_same(found, expected, name):
    assert type(found) is type(expected), name
    if isinstance(found, str):
        assert found == expected or not SAME_ARITHMETIC, name
        return
    assert found["dtype"] == expected["dtype"], name
    found, expected = (np.array(v["values"]) for v in (found, expected))
    if SAME_ARITHMETIC or found.dtype.kind in "US":
        np.testing.assert_array_equal(found, expected, err_msg=name)
    else:
        tolerance = dict(atol=VOTES) if found.dtype.kind in "iub" else {}
        np.testing.assert_allclose(
            found, expected, **{"rtol": 0.05, "atol": 0.05, **tolerance}
        )


def _is_older(package):
    """Whether it is older than the one that wrote the golden files."""
    versions = package.__version__, GOLDEN["machine"][package.__name__]
    ours, theirs = ([*map(int, v.split(".")[:2])] for v in versions)
    return ours < theirs


@pytest.mark.parametrize("name", cases.CASES)
@pytest.mark.filterwarnings("ignore:Without a memory")
def test_certificates_are_those_of_earlier_versions(name):
    if name == "saved_models" and _is_older(keras):
        pytest.skip("an older Keras does not load what a newer one has saved")
    found, expected = cases.found(name), GOLDEN["cases"][name]
    assert list(found) == list(expected)
    for key, value in found.items():
        assert_same(value, expected[key], f"{name}: {key}")


def test_all_cases_are_kept():
    assert list(GOLDEN["cases"]) == list(cases.CASES)
