"""Random damage to a log or its settings: an error, or equal certificates."""

import contextlib
import json
import pathlib
import warnings

import numpy as np
import pytest
from conftest import linear_model
from conftest import rechain
from conftest import smoothed

import keras_smoothing as ks

DATA = pathlib.Path(__file__).parent / "data"
X = np.linspace(-1, 1, 8, dtype="float32")[:, np.newaxis]
SETTINGS = dict(
    n0=20,
    stopping=ks.AdaptiveSampling([0.0, 0.5], max_n=2_000),
    alpha=0.01,
    verbose=0,
)


@pytest.fixture
def model():
    return smoothed(linear_model([1.0]), sigma=0.5)


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "run.tsv"
    model.certify(X, [0] * 8, log=path, seed=1, **SETTINGS)
    return path


def edited(text, rng):
    """The text with one to three characters changed, lost, doubled or cut."""
    for _ in range(rng.integers(1, 4)):
        i = rng.integers(len(text))
        j = i + rng.integers(1, 12)
        character = chr(rng.choice([*b'0123456789-.:,"{}[]eE\t\n aNx', 0x3B1]))
        text = [
            text[:i] + character + text[i + 1 :],
            text[:i] + character + text[i:],
            text[:i] + text[j:],
            text[:j] + text[i:],
            text[:i],
        ][rng.choice(5, p=[0.4, 0.2, 0.2, 0.15, 0.05])]
        if not text:
            break
    return text


def with_value_replaced(text, rng):
    """JSON with one of its values, at any depth, replaced or left out."""
    settings = json.loads(text)
    node, nodes = settings, [settings]
    while nodes:
        node = nodes.pop(rng.integers(len(nodes)))
        inner = [v for v in node.values() if isinstance(v, dict) and v]
        if not inner or rng.random() < 0.5:
            break
        nodes = inner
    key = rng.choice(list(node))
    values = [None, True, -1, 0, 1.5, 1e400, "x", "", [], [[]], {}, {"a": 1}]
    values += [{"class_name": "Dense", "config": {}}, 10**30, ["0.1", None]]
    choice = rng.integers(len(values) + 1)
    if choice == len(values):
        del node[key]
    else:
        node[key] = values[choice]
    return json.dumps(settings)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("prediction", "radius", "p_lower", "counts", "scale")
    )


def forge(path):
    """Hashes anew what can be: parsers have to hold without the hashes."""
    if path.read_text().endswith("\n"):
        with contextlib.suppress(ValueError, RecursionError, AttributeError):
            rechain(path)


def read_quietly(path):
    """A log that may have fewer rows, or be of an earlier format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ks.read_log(path)


@pytest.mark.parametrize("edit", [edited, with_value_replaced])
def test_damaged_settings_are_an_error_or_change_nothing(path, edit):
    rng = np.random.default_rng(0)
    expected = ks.read_log(path)
    sidecar = path.with_name("run.tsv.json")
    text = sidecar.read_text()
    refused = 0
    for _ in range(750):
        sidecar.write_text(edit(text, rng))
        forge(path)
        try:
            result = read_quietly(path)
        except ValueError as error:
            assert "Expected " in str(error) and "Received: " in str(error)
            refused += 1
        else:
            assert same(result, expected), sidecar.read_text()
    assert 250 < refused < 750


@pytest.mark.parametrize("edit", [edited, with_value_replaced])
def test_damaged_settings_are_not_resumed(path, edit, model):
    rng = np.random.default_rng(1)
    expected = ks.read_log(path)
    sidecar = path.with_name("run.tsv.json")
    text, rows = sidecar.read_text(), path.read_bytes()
    refused = 0
    for _ in range(60):
        path.write_bytes(rows)
        sidecar.write_text(edit(text, rng))
        forge(path)
        forged = path.read_bytes()
        try:
            result = model.certify(X, [0] * 8, log=path, **SETTINGS)
        except ValueError as error:
            assert "Expected " in str(error)
            refused += 1
        else:
            assert same(result, expected), sidecar.read_text()
        assert path.read_bytes() == forged
    assert 30 < refused


def test_damaged_logs_are_an_error_or_change_nothing(path):
    rng = np.random.default_rng(2)
    expected = ks.read_log(path)
    text = path.read_text()
    refused = 0
    for _ in range(1_500):
        damaged = edited(text, rng)
        path.write_text(damaged)
        forge(path)
        try:
            result = read_quietly(path)
        except ValueError as error:
            assert "Expected " in str(error)
            refused += 1
            continue
        # Labels, times and numbers of votes for other classes may pass.
        kept = [
            np.flatnonzero(expected.radius == radius).size
            for radius in result.radius
        ]
        assert all(kept) and len(result) <= len(expected), damaged
    assert 1_000 < refused < 1_500


def test_damage_is_found_by_the_hashes_but_for_times(path):
    rng = np.random.default_rng(3)
    expected = ks.read_log(path)
    text = path.read_text()
    passed = 0
    for _ in range(500):
        path.write_text(edited(text, rng))
        with contextlib.suppress(ValueError):
            result = read_quietly(path)
            passed += 1
            assert same(result, expected[: len(result)]), path.read_text()
            assert (result.label == expected.label[: len(result)]).all()
    assert 0 < passed < 100


def read_earlier(name):
    with pytest.warns(UserWarning, match="not bound to their settings"):
        return ks.read_log(DATA / name)


def test_logs_of_format_3_are_read():
    result = read_earlier("format_3.tsv")
    np.testing.assert_array_equal(result.num_samples, [330, 330, 2_000])
    np.testing.assert_array_equal(result.scale, [1, 1, 1])
    np.testing.assert_array_equal(result.prediction, [0, -1, -1])
    assert result.radius[0] == pytest.approx(0.3801771)
    assert result.findings == {}
    assert repr(result.stopping) == "AdaptiveSampling(radii=[0.0, 0.25], " + (
        "max_n=2000)"
    )
    assert result.recertify(1e-4).radius[0] < 0.38


def test_logs_of_format_4_are_read():
    result = read_earlier("format_4.tsv")
    np.testing.assert_array_equal(result.prediction, [0, -1, -1])
    np.testing.assert_array_equal(result.scale, [1, 1, 1])
    np.testing.assert_array_equal(result.mean_scale, [1, 1, 1])
    assert result.radius[0] == pytest.approx(0.4960136)
    assert result.deployable and result.promises is None


def test_logs_of_format_5_are_read():
    result = read_earlier("format_5.tsv")
    np.testing.assert_array_equal(result.prediction, [0, 0, 1, -1])
    np.testing.assert_array_equal(result.num_samples, [0, 0, 500, 500])
    assert result.radius[0] == pytest.approx(0.4253388)
    np.testing.assert_array_equal(result.promises["noise"], [""] * 4)
    assert result.memory_alpha is None
    assert "the smoothed classifier answers" in result.statement
    assert "other noise" not in result.statement
    assert "2 answered by earlier promises" in result._repr_html_()


def test_logs_of_format_6_are_read():
    result = read_earlier("format_6.tsv")
    np.testing.assert_array_equal(result.prediction, [0, 0, 1, -1])
    np.testing.assert_array_equal(result.num_samples, [500] * 4)
    assert result.memory_alpha == 0.04
    np.testing.assert_allclose(
        result.promises["proved_radius"], [0.6002, 0.5352, 0.6002, 0], atol=1e-4
    )
    pixels = read_earlier("format_6_arrays.tsv")
    assert type(pixels) is ks.SegmentationResult
    np.testing.assert_array_equal(pixels.prediction[0], [[0, 1, -1]])


def test_logs_of_format_3_are_not_resumed(tmp_path):
    for name in ("format_3.tsv", "format_3.tsv.json"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    model = smoothed(linear_model([1.0, 0.0]), sigma=0.5)
    x = np.array([[0.5, 0], [-0.2, 0], [0.01, 0]], "float32")
    with pytest.raises(ValueError, match="in format 7 to resume. Received"):
        model.certify(
            x,
            [0, 1, 1],
            n0=50,
            stopping=ks.AdaptiveSampling([0.0, 0.25], max_n=2_000),
            alpha=0.01,
            log=tmp_path / "format_3.tsv",
            verbose=0,
        )
