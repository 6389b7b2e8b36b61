"""Certify the boxes of a detector: bright cells in a dark image.

    python examples/detection.py

The detector knows nothing of noise and is not trained: it smooths the image,
and looks for what is brighter than its neighbours. Any other will do whose
boxes and scores come out of a Keras model. Writes certified recall and a
picture of the intervals into `output/`.
"""

import argparse
import pathlib

import keras
import numpy as np
from keras import ops

import keras_smoothing as ks

SIZE, CELL = 24, 6


def scenes(count):
    """Images with up to three bright squares, and their boxes."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 0.1, (count, SIZE, SIZE, 1)).astype("float32")
    boxes = np.full((count, 3, 4), np.nan)
    for i in range(count):
        columns = rng.permutation(SIZE // CELL)[: rng.integers(1, 4)]
        for k, column in enumerate(columns):
            x1, y1 = CELL * column, rng.integers(0, SIZE - CELL + 1)
            x[i, y1 : y1 + CELL, x1 : x1 + CELL] = 1.0
            boxes[i, k] = x1, y1, x1 + CELL, y1 + CELL
    return x, boxes


@keras.saving.register_keras_serializable(package="examples")
class Peaks(keras.layers.Layer):
    """A square around each place that is brightest for as far as a square."""

    def call(self, images):
        means = ops.average_pool(images, CELL, strides=1, padding="valid")
        highest = means
        for window in ((2 * CELL - 1, 1), (1, 2 * CELL - 1)):
            highest = ops.max_pool(highest, window, strides=1, padding="same")
        # Of float32 images equal peaks are rare; a flat one would be many.
        scores = ops.where(means >= highest, means, 0.0)
        side = SIZE - CELL + 1
        y, x = ops.meshgrid(ops.arange(side), ops.arange(side), indexing="ij")
        corners = ops.cast(ops.stack([x, y], axis=-1), "float32")
        boxes = ops.concatenate([corners, corners + CELL], axis=-1)
        boxes = ops.reshape(boxes, (1, -1, 4))
        boxes = ops.tile(boxes, (ops.shape(images)[0], 1, 1))
        return boxes, ops.reshape(scores, (-1, side * side))

    def compute_output_shape(self, shape):
        places = (SIZE - CELL + 1) ** 2
        return (shape[0], places, 4), (shape[0], places)


def draw(result, image, i, radius, path):
    """The image, the predicted boxes, and where their edges may go."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    ax.imshow(image[..., 0], cmap="gray", extent=(0, SIZE, SIZE, 0))
    lower, upper = (ends[i] for ends in result.at(radius))
    present = (upper < np.inf).all(axis=-1)
    for box, low, high in zip(
        *(part[present] for part in (result.prediction[i], lower, upper)),
        strict=True,
    ):
        outer = [*low[:2], *high[2:]]
        inner = [*high[:2], *low[2:]]
        for edges, color, style in (
            (box, "tab:green", "-"),
            (outer, "tab:orange", "--"),
            (inner, "tab:orange", "--"),
        ):
            x1, y1, x2, y2 = edges
            ax.plot(
                [x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], style, color=color
            )
    ax.set_title(f"boxes and their intervals at radius {radius}")
    ax.figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()

    x, boxes = scenes(arguments.examples)
    image = keras.Input((SIZE, SIZE, 1))
    slots = ks.layers.SortedBoxes(max_boxes=4)(*Peaks()(image))
    model = ks.SmoothedDetector(
        keras.Model(image, slots), ks.noise.Gaussian(arguments.sigma)
    )
    print(f"\nCertifying the boxes of {len(x)} images")
    result = model.certify(
        x,
        boxes,
        radii=[0.0, 0.1, 0.25, 0.5],
        n=arguments.n,
        alpha=0.001,
        seed=0,
    )
    print()
    result.summary()

    arguments.output.mkdir(exist_ok=True)
    plot = arguments.output / "detection.png"
    result.plot().figure.savefig(plot, dpi=150)
    picture = arguments.output / "detection_boxes.png"
    draw(result, x[0], 0, 0.5, picture)
    print(f"\nSaved {plot} and {picture}")


if __name__ == "__main__":
    main()
