"""What certificates of components add up to, against all attacks there are."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing.certificates import LabelClaim
from keras_smoothing.certificates import PixelClaim

NOISE = ks.noise.Gaussian(sigma=0.5)


def result_of(kind, claim, candidate, votes, label=None):
    """A result as `certify` returns it."""
    count = len(candidate)
    return kind.from_votes(
        np.asarray(candidate, np.int32),
        np.asarray(votes, np.int32),
        claim,
        nan_draws=np.zeros_like(candidate, np.int32),
        num_samples=np.full(count, claim.n),
        time=np.ones(count),
        label=None if label is None else np.asarray(label, np.int32),
        digest=np.array([f"{i:016x}" for i in range(count)]),
        index=np.arange(count),
        seed=0,
    )


def segmentation(seed=0, shape=(2, 2, 2), classes=3, void=True):
    rng = np.random.default_rng(seed)
    return result_of(
        ks.SegmentationResult,
        PixelClaim(NOISE, 0.01, 100),
        rng.integers(0, classes, shape),
        rng.choice([40, 70, 85, 99], shape),
        rng.integers(-int(void), classes, shape),
    )


def labels(seed=0, shape=(2, 3)):
    rng = np.random.default_rng(seed)
    return result_of(
        ks.MultiLabelResult,
        LabelClaim(NOISE, 0.01, 100),
        rng.integers(0, 2, shape),
        rng.choice([40, 70, 85, 99], shape),
        rng.integers(-1, 2, shape),
    )


def attacked(result, radius, classes):
    """Yields all answers that an attack of a radius may reach."""
    held = (result.radius >= radius) & ~result.abstained
    open_ = np.flatnonzero(~held)
    answers = np.where(held, result.prediction, 0).ravel()
    for choice in itertools.product(range(classes), repeat=len(open_)):
        answers[open_] = choice
        yield answers.reshape(held.shape)


def iou(answers, label):
    """IoU of each class in the labels, NaN for others."""
    known = label >= 0
    answers, label = answers[known], label[known]
    return np.array(
        [
            np.sum((answers == c) & (label == c))
            / np.sum((answers == c) | (label == c))
            if np.any(label == c)
            else np.nan
            for c in range(label.max(initial=-1) + 1)
        ]
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_attack_goes_below_the_certified_iou(seed):
    result = segmentation(seed)
    for radius in (0.0, 0.2, 0.5):
        reached = [
            iou(answers, result.label)
            for answers in attacked(result, radius, classes=3)
        ]
        certified = result.iou(radius)
        # Of each class it is what the worst attack leaves.
        np.testing.assert_allclose(np.min(reached, axis=0), certified)
        worst = min(np.nanmean(each) for each in reached)
        assert result.mean_iou(radius) <= worst + 1e-12
        assert result.mean_iou(radius) == np.nanmean(certified)
        np.testing.assert_allclose(
            result.mean_iou([radius, radius]), np.nanmean(certified)
        )


def test_without_abstentions_the_iou_is_the_usual_one():
    result = segmentation(3, shape=(5, 4, 4))
    votes = np.full_like(result.votes, 100)
    sure = result_of(
        ks.SegmentationResult,
        result.claim,
        result.candidate,
        votes,
        result.label,
    )
    np.testing.assert_allclose(sure.iou(0), iou(result.candidate, result.label))


def test_abstentions_may_become_any_class():
    # As a class of its own the abstention would cost class 1 nothing.
    result = result_of(
        ks.SegmentationResult,
        PixelClaim(NOISE, 0.01, 100),
        np.array([[[0, 0, 1, 1]]]),
        np.array([[[100, 50, 100, 100]]]),
        np.array([[[0, 0, 1, 1]]]),
    )
    np.testing.assert_allclose(result.iou(0), [1 / 2, 2 / 3])
    assert result.certified_accuracy(0) == 0.75


@pytest.mark.parametrize("seed", range(8))
def test_no_attack_goes_below_the_measures_of_labels(seed):
    result = labels(seed)
    known = result.label >= 0
    for radius in (0.0, 0.2, 0.5):
        precision, recall, exact, right = [], [], [], []
        for answers in attacked(result, radius, classes=2):
            given = (answers == 1) & known
            hits = np.sum(given & (result.label == 1))
            precision.append(hits / max(1, given.sum()))
            recall.append(hits / max(1, np.sum(result.label == 1)))
            same = (answers == result.label) & known
            exact.append(np.mean((same | ~known).all(axis=1)))
            right.append(same.sum(axis=0) / np.maximum(1, known.sum(axis=0)))
        assert result.precision(radius) == pytest.approx(min(precision))
        assert result.recall(radius) == pytest.approx(min(recall))
        assert result.exact_match(radius) == pytest.approx(min(exact))
        accuracy = result.label_accuracy([radius])[0]
        np.testing.assert_allclose(
            np.where(known.any(axis=0), accuracy, 0), np.min(right, axis=0)
        )
        assert np.isnan(accuracy[~known.any(axis=0)]).all()


@pytest.mark.parametrize("make", [segmentation, labels])
def test_accuracy_is_of_what_counts(make):
    result = make(5, shape=(4, 3, 3)[: 3 if make is segmentation else 2])
    known = result.label >= 0
    right = (result.prediction == result.label) & known
    for radius in (0.0, 0.2):
        share = np.sum(right & (result.radius >= radius)) / known.sum()
        assert result.certified_accuracy(radius) == share
    figures = result.figures()
    axes = tuple(range(1, known.ndim))
    np.testing.assert_allclose(
        figures["certified_accuracy"],
        right.sum(axes) / np.maximum(1, known.sum(axes)),
    )
    with pytest.raises(ValueError, match="radii >= 0"):
        result.certified_accuracy(-1)
    measure = result.mean_iou if make is segmentation else result.recall
    with pytest.raises(ValueError, match="radii >= 0"):
        measure(-1)


@pytest.mark.parametrize(
    "make,measures",
    [
        (segmentation, ("iou", "mean_iou")),
        (labels, ("exact_match", "precision", "recall")),
    ],
    ids=("pixels", "labels"),
)
def test_what_is_about_components_together_needs_a_correction(make, measures):
    together = make(5, shape=(4, 3, 3)[: 3 if make is segmentation else 2])
    alone = together.recertify(0.01, correction=None)
    for name in measures:
        getattr(together, name)(0.1)
        with pytest.raises(ValueError, match="Received: correction=None"):
            getattr(alone, name)(0.1)
    assert 0 < alone.certified_accuracy(0.1) < 1
    texts = []
    for result in (together, alone):
        result.summary([0.1], print_fn=texts.append)
    shown = {line.split("  ")[0] for line in texts[0].splitlines()}
    hidden = {line.split("  ")[0] for line in texts[1].splitlines()}
    joint = {"certified mean IoU", "all labels right", "precision", "recall"}
    assert joint & shown and not joint & hidden


@pytest.mark.parametrize("make", [segmentation, labels])
def test_results_are_selected_and_joined(make):
    result = make(1)
    assert len(result) == 2
    for which in (1, [1], slice(1, 2), np.array([False, True])):
        one = result[which]
        assert type(one) is type(result) and len(one) == 1
        np.testing.assert_array_equal(one.radius, result.radius[1:])
        np.testing.assert_array_equal(one.label, result.label[1:])
        np.testing.assert_array_equal(one.index, [1])
        np.testing.assert_array_equal(one.recertify(0.02).index, [1])
        assert one.family == 2
        assert one.recertify(0.01, True).alpha == 0.01 / 2
        assert "shared by the 2" in one.statement
    joined = type(result).concatenate([result[0], result[1]])
    assert joined.family == 4
    np.testing.assert_array_equal(joined.radius, result.radius)
    np.testing.assert_array_equal(joined.digest, result.digest)
    np.testing.assert_array_equal(joined.index, [0, 1])
    assert joined.seed == 0 and joined.claim == result.claim
    with pytest.raises(ValueError, match="results of one claim"):
        type(result).concatenate([result, result.recertify(0.02)])
    with pytest.raises(ValueError, match="components"):
        wider = make(1, shape=(2, 3, 3)[: result.radius.ndim - 1] + (5,))
        type(result).concatenate([result, wider])
    classes = ks.CertificationResult(np.arange(3), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="claim="):
        type(result).concatenate([result, classes])
    with pytest.raises(IndexError, match="Expected a slice"):
        result[np.zeros((2, 2), int)]


@pytest.mark.parametrize("make", [segmentation, labels])
def test_summaries_say_what_is_stated(make):
    result = make(2)
    lines = []
    result.summary(radii=[0.0, 0.2], print_fn=lines.append)
    text = " ".join(lines[0].split())
    assert result.statement in text
    assert "2 examples of" in repr(result)
    what = "pixels" if make is segmentation else "labels"
    for part in (what, "alpha=0.01", "bonferroni", "certified accuracy"):
        assert part in text
    abstained = -np.floor(-1000 * np.mean(result.abstained)) / 10
    assert f"abstained {abstained:.1f}%" in text
    holm = result.recertify(0.05, correction="holm", radius=0.1)
    holm.summary(print_fn=lines.append)
    assert "holm" in lines[1] and "than 0.1, in l2" in lines[1]
    result[:0].summary(print_fn=lines.append)
    assert lines[2].startswith("0 examples")
    unlabelled = result_of(
        type(result), result.claim, result.candidate, result.votes
    )
    unlabelled.summary(print_fn=lines.append)
    assert "accuracy" not in lines[3]
    assert "certified_accuracy" not in unlabelled.figures()
    with pytest.raises(ValueError, match="Expected a result with labels"):
        unlabelled.certified_accuracy(0)


def test_nothing_is_stated_of_what_is_void():
    result = segmentation(0)
    void = result_of(
        ks.SegmentationResult,
        result.claim,
        result.candidate,
        result.votes,
        np.full_like(result.label, -1),
    )
    assert np.isnan(void.mean_iou(0.0))
    assert np.isnan(void.mean_iou([0.0, 0.1])).all()
    assert (void.figures()["certified_accuracy"] == 0).all()
    void.summary(print_fn=lambda text: None)


def test_plots():
    matplotlib.use("Agg")
    result = segmentation(4, shape=(2, 6, 5))
    ax = result.plot()
    assert ax.get_xlabel() == "l2 radius"
    assert ax.get_ylabel() == "certified accuracy of pixels"
    image = np.random.default_rng(0).random((6, 5))
    for shown in (None, image, np.stack([image] * 3, axis=-1)):
        ax = result.plot_map(1, image=shown)
        *below, colours = ax.images
        assert len(below) == (shown is not None)
        array = colours.get_array()[..., :3]
        grey = (array == 0.7).all(axis=-1)
        np.testing.assert_array_equal(grey, result.abstained[1])
        of_class = [
            {tuple(c) for c in array[result.prediction[1] == k]}
            for k in range(3)
        ]
        assert [len(c) for c in of_class] == [1, 1, 1]
        assert len(set.union(*of_class)) == 3
        wrong = result.labelled[1] & ~result.correct[1] & ~result.abstained[1]
        marks = ax.collections[0].get_offsets()
        np.testing.assert_array_equal(
            np.sort(marks, axis=0), np.sort(np.argwhere(wrong)[:, ::-1], axis=0)
        )
        plt.close(ax.figure)
    colours = result.plot_map(0, labels=True).images[0].get_array()
    grey = (colours == 0.7).all(axis=-1)
    np.testing.assert_array_equal(grey, ~result.labelled[0])
    assert labels(0).plot().get_ylabel() == "certified accuracy of labels"
    plt.close("all")


def test_figures_of_classes_take_no_pixels(tmp_path):
    result = segmentation(0)
    with pytest.raises(ValueError, match="one radius for each example"):
        ks.evaluation.compare(result, result)
    with pytest.raises(ValueError, match="one radius for each example"):
        ks.report.write_html(tmp_path / "a.html", {"a": result}, [0.0])
