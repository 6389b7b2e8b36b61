"""Certified boxes: sorted slots, worst overlaps, recall."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import rechain
from keras import ops

import keras_smoothing as ks
from keras_smoothing.evaluation import worst_iou
from keras_smoothing.logs import array_rows

SIZE = 16
NONE = [np.inf] * 4
SETTINGS = dict(radii=[0.0, 0.2, 0.5], n=2_000, seed=0, verbose=0)


@keras.saving.register_keras_serializable(package="tests")
class BrightRectangles(keras.layers.Layer):
    """One rectangle in each half of an image: a box and its brightness.

    Its edges are where those of a rectangle with the mean and the variance of
    the bright columns, and rows, would be.
    """

    def call(self, images):
        boxes, scores = [], []
        for first, last in ((0, SIZE // 2), (SIZE // 2, SIZE)):
            half = images[:, :, first:last, 0]
            x1, x2 = _edges(ops.sum(half, axis=1))
            y1, y2 = _edges(ops.sum(half, axis=2))
            boxes.append(ops.stack([x1 + first, y1, x2 + first, y2], axis=-1))
            scores.append(ops.sum(half, axis=(1, 2)) / 12)
        return ops.stack(boxes, axis=1), ops.stack(scores, axis=1)

    def compute_output_shape(self, shape):
        return (shape[0], 2, 4), (shape[0], 2)


def _edges(sums):
    weights = ops.clip(sums - 1.0, 1e-6, 100.0)
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    centres = ops.arange(sums.shape[1], dtype="float32") + 0.5
    mean = ops.sum(weights * centres, axis=1, keepdims=True)
    variance = ops.sum(weights * (centres - mean) ** 2, axis=1)
    spread = ops.sqrt(3 * variance + 0.25)
    return mean[:, 0] - spread, mean[:, 0] + spread


def detector(**arguments):
    image = keras.Input((SIZE, SIZE, 1))
    slots = ks.layers.SortedBoxes(**{"max_boxes": 3, **arguments})
    return keras.Model(image, slots(*BrightRectangles()(image)))


def smoothed(**arguments):
    return ks.SmoothedDetector(detector(), ks.noise.Gaussian(0.2), **arguments)


@pytest.fixture(scope="module")
def scenes():
    """Images and true boxes: none, one on either side, two."""
    rng = np.random.default_rng(0)
    x = np.zeros((8, SIZE, SIZE, 1), "float32")
    y = np.full((8, 2, 4), np.nan)
    for i in range(8):
        for side in range(2):
            if i >> side & 1:
                width, height = rng.integers(4, 7, 2)
                x1 = 8 * side + rng.integers(0, 8 - width)
                y1 = rng.integers(0, SIZE - height)
                x[i, y1 : y1 + height, x1 : x1 + width] = 1
                y[i, side] = x1, y1, x1 + width, y1 + height
    return x, y


def test_boxes_are_sorted_into_slots():
    boxes = np.array(
        [
            [[5, 0, 9, 4], [0, 0, 4, 4], [1, 1, 2, 2], [9, 0, 11, 3]],
            [[np.nan, 0, 9, 4], [0, 0, np.inf, 4], [3, 1, 4, 2], [1, 0, 2, 3]],
        ],
        "float32",
    )
    scores = np.array([[0.9, 0.8, 0.1, 0.7], [0.9, 0.9, np.nan, 0.6]])
    a, b, _, c = boxes[0].tolist()
    d = boxes[1, 3].tolist()
    for arguments, expected in (
        (dict(max_boxes=4), [[b, a, c, NONE], [d, NONE, NONE, NONE]]),
        (dict(max_boxes=2), [[b, a], [d, NONE]]),
        (dict(max_boxes=1), [[a], [d]]),
        (
            dict(max_boxes=6, order="score"),
            [[a, b, c, NONE, NONE, NONE], [d] + [NONE] * 5],
        ),
        (dict(max_boxes=2, score_threshold=0.85), [[a, NONE], [NONE, NONE]]),
        (
            dict(max_boxes=3, score_threshold=0.0, order="score"),
            [[a, b, c], [d, NONE, NONE]],
        ),
    ):
        layer = ks.layers.SortedBoxes(**arguments)
        result = np.array(layer(boxes, scores.astype("float32")))
        np.testing.assert_array_equal(result, np.array(expected, "float32"))


def test_the_layer_of_slots_keeps_its_settings():
    layer = ks.layers.SortedBoxes(
        3, score_threshold=0.2, order="score", dtype="mixed_float16"
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    name = keras.saving.get_registered_name(ks.layers.SortedBoxes)
    assert name == "keras_smoothing>SortedBoxes"
    slots = layer(keras.Input((5, 4)), keras.Input((5,)))
    assert slots.shape == (None, 3, 4) and slots.dtype == "float32"
    # 2049 has no place in float16.
    box = np.array([[[2047.0, 0, 2049, 4]]], "float32")
    result = layer(box, np.ones((1, 1), "float32"))
    np.testing.assert_array_equal(result[:, 0], box[:, 0])
    for arguments in (dict(max_boxes=0), dict(max_boxes=2, order="size")):
        with pytest.raises(ValueError, match="Expected"):
            ks.layers.SortedBoxes(**arguments)


def plain_iou(a, b):
    """Of two boxes, in words of its own."""
    if not np.isfinite(a).all() or a[0] >= a[2] or a[1] >= a[3]:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_no_box_in_the_intervals_overlaps_less():
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(200):
        true = np.array([2.0, 2.0, 8.0, 7.0]) + rng.normal(size=4)
        middle = true + rng.normal(size=4)
        spread = rng.exponential(rng.choice([0.1, 1.0, 4.0]), size=(2, 4))
        lower, upper = middle - spread[0], middle + spread[1]
        worst = worst_iou(lower[np.newaxis], upper[np.newaxis], true[None])
        assert worst.shape == (1, 1)
        vertices = itertools.product(*zip(lower, upper, strict=True))
        best_known = min(plain_iou(np.array(v), true) for v in vertices)
        assert worst[0, 0] == pytest.approx(best_known)
        inside = rng.uniform(lower, upper, size=(500, 4))
        least = min(plain_iou(box, true) for box in inside)
        assert worst[0, 0] <= least + 1e-12
        reached += worst[0, 0] > 0
    assert 20 < reached < 180


def test_in_each_edge_the_overlap_rises_and_then_falls():
    rng = np.random.default_rng(1)
    true, grid = np.array([2.0, 2.0, 8.0, 7.0]), np.linspace(-3, 14, 500)
    for _ in range(50):
        low, high = rng.uniform(0, 6, 2), rng.uniform(0, 6, 2)
        box = np.concatenate([low, low + high])
        for edge in range(4):
            values = []
            for value in grid:
                moved = box.copy()
                moved[edge] = value
                values.append(plain_iou(moved, true))
            values = np.array(values)
            top = values.argmax()
            assert (np.diff(values[: top + 1]) >= -1e-12).all()
            assert (np.diff(values[top:]) <= 1e-12).all()


def test_boxes_that_may_be_missing_overlap_nothing():
    lower = np.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [-np.inf, 0, 4, 4]])
    upper = np.array([[0.0, 0, 4, 4], [0, 0, 4, np.inf], [0, 0, 4, 4]])
    true = np.array([[0.0, 0, 4, 4], [0, 0, 4, 8], [4, 4, 8, 8]])
    np.testing.assert_allclose(
        worst_iou(lower, upper, true), [[1, 0, 0], [0.5, 0, 0], [0, 0, 0]]
    )
    empty = np.array([[0.0, 0, 4, 4]]), np.array([[5.0, 0, 4, 4]])
    np.testing.assert_array_equal(worst_iou(*empty, true), np.zeros((3, 1)))


def test_what_is_found_and_kept(scenes):
    x, y = scenes
    result = smoothed().certify(x, y, **SETTINGS)
    assert type(result) is ks.DetectionResult
    # At the image itself: as many slots as rectangles, in their places.
    counts = (~np.isnan(y[..., 0])).sum(axis=1)
    np.testing.assert_array_equal(result.present[:, 0].sum(axis=1), counts)
    for i in range(8):
        true = y[i][~np.isnan(y[i, :, 0])]
        found = result.prediction[i, : len(true)]
        np.testing.assert_allclose(found, true, atol=0.5)
        assert (result.prediction[i, len(true) :] == np.inf).all()
    recall = result.certified_recall(result.radii, iou=0.5)
    assert recall[0] == 1.0 and (np.diff(recall) <= 0).all()
    assert 0 < recall[1] and recall[2] < 1
    assert result.certified_recall(0.2, iou=0.9) <= recall[1]
    # Padding counts for nothing.
    padded = np.concatenate([y, np.full((8, 3, 4), np.nan)], axis=1)
    worst = result.worst_iou(padded, 0.2)
    assert worst.shape == (8, 5, 3)
    np.testing.assert_array_equal(
        np.isnan(worst).all(axis=2), np.isnan(padded[..., 0])
    )
    known = worst[~np.isnan(worst).all(axis=2)].max(axis=1)
    assert (known >= 0.5).mean() == recall[1]
    np.testing.assert_array_equal(
        result[3:].worst_iou(padded[3:], 0.2), worst[3:]
    )
    lines = []
    result.summary(print_fn=lines.append)
    assert "recall 0.75" in lines[0] and "present" in lines[0]
    ax = result.plot(iou=0.75)
    assert ax.get_ylabel() == "certified recall at IoU 0.75"
    predicted = smoothed(num_draws=51).predict(x, verbose=0)
    np.testing.assert_allclose(predicted, result.prediction, atol=0.5)


def test_boxes_stay_where_the_image_is_attacked(scenes):
    # Rows and columns beside each rectangle brightened, its edges dimmed.
    x, y = (part[3:4] for part in scenes)
    model, radius = smoothed(), 0.5
    result = model.certify(x, y, **SETTINGS)
    lower, upper = result.at(radius)
    worst = result.worst_iou(y, radius)
    moved = 0.0
    x1, y1, x2, y2 = y[0, 0].astype(int)
    for rows, columns in (
        (slice(y1, y2), slice(x2, x2 + 1)),
        (slice(y2, y2 + 1), slice(x1, x2)),
        (slice(y1, y2), slice(x1, x1 + 1)),
        (slice(y1, y1 + 1), slice(x1, x2)),
    ):
        move = np.zeros_like(x)
        move[0, rows, columns] = np.where(x[0, rows, columns] > 0.5, -1, 1)
        size = np.linalg.norm(move)
        move *= 0.999 * radius / max(size, 1e-9)
        there = model.certify(
            x + move, radii=0.0, n=4_000, seed=1, verbose=0
        ).prediction
        assert (lower <= there).all() and (there <= upper).all()
        for slot in range(2):
            for g in range(2):
                assert plain_iou(there[0, slot], y[0, g]) >= worst[0, g, slot]
        far = np.abs(there[0, :2] - result.prediction[0, :2]).max()
        moved = max(moved, far)
    assert moved > 0.1


def test_logs_saving_and_datasets(scenes, tmp_path):
    x, y = scenes
    model, path = smoothed(), tmp_path / "run.tsv"
    whole = model.certify(x, y, **SETTINGS, log=path)
    path.write_bytes(path.read_bytes()[:-200])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is ks.SmoothedDetector
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    for result in (
        loaded.certify(batches, **SETTINGS, log=path),
        ks.read_log(path),
    ):
        for name in ("prediction", "lower", "upper", "label"):
            np.testing.assert_array_equal(
                getattr(result, name), getattr(whole, name)
            )
        assert type(result) is ks.DetectionResult
    regression = ks.SmoothedRegression(model.base_model, model.noise)
    with pytest.raises(ValueError, match="another run.*claim="):
        regression.certify(x, **SETTINGS, log=path)
    text = path.read_text()
    heading, first, *_ = (line.split("\t") for line in text.splitlines())
    label = first[heading.index("label")]
    for wrong in (y[0, :, :3], y[0, 0], y[0].astype("float32")):
        path.write_text(text.replace(label, array_rows._to_text(wrong)))
        rechain(path)
        with pytest.raises(ValueError, match="true boxes"):
            ks.read_log(path)


def test_a_box_that_may_be_missing_is_not_present(scenes):
    x, y = scenes
    result = smoothed().certify(x[3:4], y[3:4], **SETTINGS)
    assert result.present[0, :, :2].all()
    assert result.certified_recall(0.0, iou=0.5) == 1.0
    upper = result.upper.copy()
    upper[0, :, 1, 3] = np.inf  # Its last edge only.
    result = dataclasses.replace(result, upper=upper)
    np.testing.assert_array_equal(result.present[0], [[True, False, False]] * 3)
    assert result.certified_recall(0.0, iou=0.5) == 0.5
    assert (result.worst_iou(y[3:4], 0.0)[0, :, 1] == 0).all()
    assert result.figures()["present"] == pytest.approx(1 / 3)


def test_recall_takes_all_edges_together(scenes):
    x, y = scenes
    result = smoothed().certify(x, y, **SETTINGS, correction=None)
    for ask in (
        lambda: result.certified_recall(0.5, iou=0.5),
        lambda: result.worst_iou(y, 0.5),
        result.plot,
    ):
        with pytest.raises(ValueError, match='correction="bonferroni"'):
            ask()
    result.summary(print_fn=lambda text: None)
    together = smoothed().certify(x, y, **SETTINGS)
    assert together.correction == "bonferroni"
    # Twelve edges, and both sides of each.
    assert together.claim.level((3, 4)) == 0.001 / 24


def test_bad_input(scenes):
    x, y = scenes
    model = smoothed()
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match=r"output shape \(batch, boxes, 4\)"):
        ks.SmoothedDetector(flat, ks.noise.Gaussian(0.1))
    group = ks.groups.HorizontalFlip("channels_last")
    with pytest.raises(ValueError, match="without a group"):
        smoothed(group=group).certify(x, y, **SETTINGS)
    swapped = y.copy()
    swapped[3, 0] = [4, 4, 2, 8]
    half = y.copy()
    half[3, 0, 0] = np.nan
    for boxes, message in (
        (swapped, "x1 < x2"),
        (half, "four NaN"),
        (y[:, 0], "boxes of shape"),
        (y[..., :3], "boxes of shape"),
        (y[:5], "boxes of shape|as many labels"),
        (np.full(y.shape, "a"), "boxes of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model.certify(x, boxes, **SETTINGS)
    result = model.certify(x, **SETTINGS)
    with pytest.raises(ValueError, match="boxes of shape"):
        result.worst_iou(y[:5], 0.5)
    with pytest.raises(ValueError, match="Expected a result with labels"):
        result.certified_recall(0.5, iou=0.5)
    with pytest.raises(ValueError, match="Expected a radius"):
        result.worst_iou(y, 2.0)
    labelled = model.certify(x[:1], y[:1], **SETTINGS)
    with pytest.raises(ValueError, match="at least one true box"):
        labelled.certified_recall(0.5, iou=0.5)
    with pytest.raises(ValueError, match="iou"):
        labelled.certified_recall(0.5, iou=1.5)


def test_a_model_that_mixes_images_is_found_among_missing_boxes():
    class Sorted(keras.layers.Layer):
        """Boxes of the whole batch, in order: none of an image's own."""

        def call(self, x):
            moved = ops.where(x > 0.5, x, float("inf"))
            return ops.reshape(ops.sort(moved, axis=0), (-1, 1, 4))

        def compute_output_shape(self, shape):
            return (shape[0], 1, 4)

    base = keras.Sequential([keras.Input((4,)), Sorted()])
    model = ks.SmoothedDetector(base, ks.noise.Gaussian(0.5))
    x = np.random.default_rng(0).random((4, 4)).astype("float32")
    with pytest.raises(ValueError, match="what else is in the batch"):
        model.certify(x, **SETTINGS)
