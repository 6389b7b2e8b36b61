"""Logs of other programs, and what of them is refused."""

import os
import pathlib

import numpy as np
import pytest

import keras_smoothing as ks

HEADING = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
LOG = f"""{HEADING}
0\t3\t3\t0.378\t1\t0:00:15.4
20\t7\t-1\t0.0\t0\t15.6
40\t1\t2\t0.25\t0\t1:01:01
"""
PUBLISHED = pathlib.Path(
    os.environ.get(
        "PUBLISHED_LOGS",
        pathlib.Path(__file__).parents[2] / "shared" / "published_logs",
    )
)


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "theirs.tsv"
        path.write_bytes(text.encode())
        return ks.read_log(path)

    return read


def assert_as_written(result):
    np.testing.assert_array_equal(result.index, [0, 20, 40])
    np.testing.assert_array_equal(result.label, [3, 7, 1])
    np.testing.assert_array_equal(result.prediction, [3, ks.ABSTAIN, 2])
    np.testing.assert_array_equal(result.radius, [0.378, 0.0, 0.25])
    np.testing.assert_array_equal(result.correct, [True, False, False])
    np.testing.assert_allclose(result.time, [15.4, 15.6, 3661])


def test_the_six_columns_are_read(read):
    result = read(LOG)
    assert_as_written(result)
    assert result.average_certified_radius() == pytest.approx(0.126)
    assert result.digest is None
    with pytest.raises(ValueError, match="with vote counts"):
        result.recertify(0.05)


def rearranged(names, **cells):
    """The log with these columns; those it does not have are all alike."""
    heading, *rows = [line.split("\t") for line in LOG.splitlines()]
    rows = [dict(zip(heading, row, strict=True)) | cells for row in rows]
    names = names.split()
    rows = [[row[name] for name in names] for row in rows]
    return "".join("\t".join(row) + "\n" for row in (names, *rows))


FORMS = {
    "data-dependent sigma": rearranged(
        "idx label predict radius correct sigma time", sigma="0.51"
    ),
    "a sigma for each coordinate": rearranged(
        "idx label predict radius radius_proxy correct min_sigma time",
        radius_proxy="9.0",
        min_sigma="0.125",
    ),
    "another order": rearranged("time correct radius predict label idx"),
    "True and False": LOG.replace("\t1\t0:", "\tTrue\t0:").replace(
        "\t0\t1", "\tFalse\t1"
    ),
    "1.0 and 0.0": LOG.replace("\t1\t0:", "\t1.0\t0:").replace(
        "\t0\t1", "\t0.0\t1"
    ),
    "floats for classes": LOG.replace("\t3\t3\t", "\t3.0\t3.0\t").replace(
        "20\t7\t-1\t", "2e1\t7.\t-1.0\t"
    ),
    "byte-order mark": "\ufeff" + LOG,
    "Windows": LOG.replace("\n", "\r\n"),
    "blank lines": LOG.replace("\n", "\n\n") + " \n",
    "no last newline": LOG.rstrip(),
    "appended": LOG.replace("40\t", f"{HEADING}\n40\t"),
    "appended in an editor": LOG.replace("40\t", f"\ufeff{HEADING} \n40\t"),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_other_forms_say_the_same(read, text):
    assert_as_written(read(text))


def test_an_abstention_without_a_label_is_not_correct(read):
    result = read(LOG + "60\t-1\t-1\t0.0\t0\t1\n")
    assert not result.correct[3]
    assert result.certified_accuracy(0) == 0.25


@pytest.mark.parametrize(
    "row", ["3\t3\t-1\t1", "3\t-1\t-1\t0", "3\t5\t-1.0\t0", "-1\t5\t-1\t0"]
)
def test_radius_minus_1_is_never_certified(read, row):
    result = read(f"{LOG}60\t{row}\t1\n")
    assert result.abstained[3] and result.radius[3] == 0.0
    assert not result.correct[3]
    assert result.certified_accuracy(0.0) == 0.25
    assert result.certified_accuracy(0.0) == np.mean(result.correct)
    assert result.average_certified_radius() == pytest.approx(0.378 / 4)
    # Without labels the share of those that do not abstain is shown.
    assert "abstained 50.0%" in result._repr_html_()


def test_a_class_with_radius_0_is_certified_there(read):
    result = read(f"{LOG}60\t3\t3\t0.0\t1\t1\n")
    assert result.certified_accuracy(0.0) == 0.5


def test_a_log_without_labels_is_read(read):
    result = read(f"{HEADING}\n0\t-1\t3\t0.5\t0\t1\n")
    assert result.label is None and result.prediction[0] == 3


@pytest.mark.parametrize(
    "old,new,message",
    [
        ("\t0.378", "\tabc", "line 2"),
        ("\t0.378", "\tnan", "line 2 .*finite number expected, 'nan'"),
        ("\t0.378", "\tinf", "line 2 .*finite number expected, 'inf'"),
        ("\t0.378", "\t1e999", "line 2 .*finite number expected"),
        ("\t0.378", "\t-0.5", "line 2 .*radius >= 0, or -1 for none"),
        ("\t0.378", "\t1_0.5", "line 2 .*'1_0.5' received"),
        ("\t0.378", "\t\u0661", "line 2 .*finite number expected"),
        ("\t15.6", "", "line 3 .*6 fields expected, 5 received"),
        ("\t15.6", "\t", "line 3"),
        ("\t15.6", "\t-15.6", "line 3 .*number >= 0 expected"),
        ("\t15.6", "\tnan", "line 3 .*finite number expected"),
        ("\t15.6", "\t0:-1:3", "line 3 .*number >= 0 expected"),
        ("0.378\t1", "0.378\t0", "line 2 .*contradict correct=0"),
        ("0.378\t1", "0.378\tFalse", "line 2 .*contradict correct=False"),
        ("0.378\t1", "0.378\t2", "line 2 .*correct of 0 or 1 expected"),
        ("0.378\t1", "0.378\tyes", "line 2"),
        ("\t-1\t0.0", "\t-1\t0.5", "line 3 .*contradicts radius 0.5"),
        ("\t-1\t0.0", "\t-2\t0.0", "line 3 .*or -1 for none, expected"),
        ("3\t3\t", "3.5\t3.5\t", "line 2 .*whole number expected, '3.5'"),
        ("3\t3\t", "1e30\t1e30\t", "line 2 .*whole number expected"),
        ("40\t", "20\t", "line 4 .*each idx once expected, 20 received"),
        ("40\t", "20.0\t", "line 4 .*each idx once expected, 20 received"),
        ("40\t", "-4\t", "line 4 .*idx >= 0 expected"),
        ("40\t", f"{HEADING}\tsigma\n40\t", "line 4 .*7 received"),
        ("radius", "distance", "columns.* without radii"),
        ("time", "radius", "columns.*, without time"),
        ("time", "time\ttime", "columns.*, some of them twice"),
        ("\t", " ", "columns"),
    ],
)
def test_what_contradicts_itself_is_refused(read, old, new, message):
    with pytest.raises(ValueError, match=message) as error:
        read(LOG.replace(old, new))
    assert "Expected " in str(error.value) and "theirs.tsv" in str(error.value)


def test_lines_are_counted_as_an_editor_does(read):
    text = LOG.replace("\n", "\r\n\r\n").replace("0.25", "nan")
    with pytest.raises(ValueError, match="line 7 "):
        read(text)


def test_a_log_of_predictions_has_no_radii(read):
    text = rearranged("idx label predict correct time")
    with pytest.raises(ValueError, match="are predictions without radii"):
        read(text)


def test_what_holds_no_row_is_refused(read):
    for text in (HEADING, f"{HEADING}\n\n{HEADING}\n"):
        with pytest.raises(ValueError, match="at least one row"):
            read(text)
    for text in ("", "\n", "\ufeff"):
        with pytest.raises(ValueError, match="Expected a log with columns"):
            read(text)


def test_the_order_of_rows_of_logs_changes_nothing(read):
    first, *rows = LOG.splitlines()
    a, b = read(LOG), read("\n".join((first, *rows[::-1])))
    found = ks.evaluation.compare(a, b)
    assert not found.only.any() and found.examples == 3
    other = read(LOG.replace("40\t", "60\t"))
    with pytest.raises(ValueError, match="example 40 of a, which b does not"):
        ks.evaluation.compare(a, other)


# Cohen et al., CIFAR-10, as published beside these logs: analysis/markdown/
# vary_noise_cifar10 of locuslab/smoothing. Of other radii and of sigma 0.12
# there are no cells, or no log.
TABLE_RADII = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
TABLE = {
    "0.25": ["0.60", "0.43", "0.27", "0.00", "0.00", "0.00"],
    "0.50": ["0.55", "0.41", "0.32", "0.23", "0.15", "0.09"],
    "1.00": ["0.39", "0.34", "0.28", "0.22", "0.17", "0.14"],
}


def published(sigma):
    name = f"cohen2019_cifar10_resnet110_sigma_{sigma}.tsv"
    if not (PUBLISHED / name).exists():
        pytest.skip("the published logs of Cohen et al. are not stored here")
    return ks.read_log(PUBLISHED / name)


@pytest.mark.parametrize("sigma", TABLE)
def test_published_logs_give_the_published_table(sigma):
    result = published(sigma)
    np.testing.assert_array_equal(result.index, 20 * np.arange(500))
    shares = result.certified_accuracy(TABLE_RADII)
    assert [f"{share:.2f}" for share in shares] == TABLE[sigma]


def test_published_logs_are_paired_whatever_their_order():
    a, b = published("0.25"), published("0.50")
    found = ks.evaluation.compare(a, b, [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(
        found.only, [[64, 57, 37, 21], [16, 30, 30, 48]]
    )
    order = np.random.default_rng(0).permutation(500)
    again = ks.evaluation.compare(a[order], b[::-1], found.radii)
    assert str(again) == str(found)
