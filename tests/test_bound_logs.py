"""Logs whose rows are bound to their settings, and to the rows before them."""

import json
import shutil
import stat

import keras
import numpy as np
import pytest
from conftest import rechain
from conftest import smoothed
from conftest import to_format

import keras_smoothing as ks

SETTINGS = dict(n0=20, n=500, alpha=0.01, seed=4, verbose=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.tsv"


@pytest.fixture
def lines(path, digits, digits_model):
    x, y = digits
    digits_model.certify(x[:8], y[:8], log=path, **SETTINGS)
    return path.read_text().splitlines(keepends=True)


def sidecar_of(path):
    return path.with_name(path.name + ".json")


def edit(path, **changes):
    settings = json.loads(sidecar_of(path).read_text())
    for name, value in changes.items():
        *above, last = name.split("__")
        node = settings
        for key in above:
            node = node[key]
        assert node[last] != value
        node[last] = value
    sidecar_of(path).write_text(json.dumps(settings))


def refused(path, match="as they were written"):
    with pytest.raises(ValueError, match=match):
        ks.read_log(path)
    return True


def test_settings_of_another_run_are_refused(tmp_path, digits, digits_model):
    # Both are honest, and of the same votes but for the group.
    x, y = digits
    base, paths = digits_model.base_model, []
    for name, group in [("plain", None), ("group", ks.groups.D4())]:
        paths.append(tmp_path / f"{name}.tsv")
        model = smoothed(base, group=group)
        model.certify(x[:4], y[:4], log=paths[-1], **SETTINGS)
    plain, group = (sidecar_of(path).read_bytes() for path in paths)
    sidecar_of(paths[0]).write_bytes(group)
    sidecar_of(paths[1]).write_bytes(plain)
    for path in paths:
        assert refused(path)


@pytest.mark.parametrize(
    "change",
    [
        dict(noise__config__sigma=2.5),
        dict(deployable=False),
        dict(alpha=0.02),
        dict(seed=5),
        dict(num_examples=9),
        dict(model="0" * 64),
        dict(backend="jax"),
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_setting_is_refused(path, lines, change, digits_model):
    edit(path, **change)
    assert refused(path)


def test_evidence_is_not_edited_into_a_certificate(path, digits, digits_model):
    x, y = digits
    with pytest.warns(UserWarning, match="no certificate"):
        digits_model.certify(
            x[:2],
            y[:2],
            log=path,
            sigma=ks.DataDependentSigma(0.2, 0.3, steps=1),
            **SETTINGS,
        )
    assert not ks.read_log(path).deployable
    edit(path, deployable=True)
    assert refused(path)


def test_votes_of_other_noise_are_refused(path, tmp_path, digits, digits_model):
    x, y = digits
    paths = path, tmp_path / "laplace.tsv"
    noises = ks.noise.Gaussian(0.25), ks.noise.Laplace(0.25)
    for each, noise in zip(paths, noises, strict=True):
        model = ks.SmoothedModel(digits_model.base_model, noise)
        model.certify(x[:4], y[:4], log=each, **SETTINGS)
    shutil.copy(sidecar_of(paths[0]), sidecar_of(paths[1]))
    assert refused(paths[1])


@pytest.mark.parametrize("resume", [False, True])
def test_lines_that_were_touched_are_found(
    path, lines, resume, digits, digits_model
):
    label = lines[3].split("\t")
    label[1] = str((int(label[1]) + 1) % 10)
    label[4] = str(int(label[1] == label[2]))
    touched = {
        "removed": [*lines[:3], *lines[4:]],
        "repeated": [*lines[:4], lines[3], *lines[4:]],
        "moved": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "flipped label": [*lines[:3], "\t".join(label), *lines[4:]],
        "another heading": [lines[0].replace("mean_", "a_"), *lines[1:]],
    }
    x, y = digits
    for name, text in touched.items():
        path.write_text("".join(text))
        with pytest.raises(ValueError, match="they were written"):
            if resume:
                digits_model.certify(x[:8], y[:8], log=path, **SETTINGS)
            else:
                ks.read_log(path)
        assert path.read_text() == "".join(text), name


def test_lines_missing_at_the_end_are_told(path, lines):
    path.write_text("".join(lines[:-2]))
    with pytest.warns(UserWarning, match="rows of 6 of 8 examples"):
        assert len(ks.read_log(path)) == 6


def test_the_last_hash_stands_for_the_log(path, lines, digits, digits_model):
    def last(text):
        return text.splitlines()[-1].rpartition("\t")[2]

    first = last(path.read_text())
    assert len(first) == 64
    # Forged from end to end, it is another.
    edit(path, alpha=0.5)
    rechain(path)
    assert last(path.read_text()) != first
    # Whoever repeats the run gets the same, in another time.
    path.unlink()
    x, y = digits
    digits_model.certify(x[:8], y[:8], log=path, **SETTINGS)
    assert last(path.read_text()) == first


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("correct", None, "correct=[01] expected"),
        ("volume_radius", "9.9", "with volume_radius"),
        ("p_lower", "0.99", "with p_lower"),
    ],
)
def test_forged_rows_have_to_follow_from_their_votes(
    path, lines, column, value, message
):
    rows = [line[:-1].split("\t") for line in lines]
    at = rows[0].index(column)
    rows[3][at] = value or str(1 - int(rows[3][at]))
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    rechain(path)
    assert refused(path, message)


@pytest.mark.parametrize("number", [6])
def test_earlier_logs_are_read_and_say_that_they_are_not_bound(
    path, lines, number, digits, digits_model
):
    expected = ks.read_log(path)
    to_format(path, number)
    with pytest.warns(UserWarning, match="format 6, .* not bound to their"):
        read = ks.read_log(path)
    np.testing.assert_array_equal(read.radius, expected.radius)
    edit(path, format=7)  # A later format is not taken for granted.
    assert refused(path, "the last is chain")


def test_rows_of_arrays_are_bound_too(path):
    base = keras.Sequential([keras.Input((4, 3, 1)), keras.layers.Conv2D(3, 1)])
    model = ks.SmoothedSegmentation(base, ks.noise.Gaussian(0.25))
    x = np.random.default_rng(0).random((2, 4, 3, 1), "float32")
    model.certify(x, n0=10, n=100, seed=0, verbose=0, log=path)
    ks.read_log(path)
    edit(path, model="0" * 64)
    assert refused(path)


def test_logs_are_for_their_owner_and_follow_no_link(
    path, tmp_path, digits, digits_model
):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    for name in ("run.tsv.json", "run.tsv.json.part"):
        (tmp_path / name).symlink_to(precious)
    x, y = digits
    digits_model.certify(x[:4], y[:4], log=path, **SETTINGS)
    assert precious.read_text() == "kept"
    for file in (path, sidecar_of(path)):
        assert not file.is_symlink()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
