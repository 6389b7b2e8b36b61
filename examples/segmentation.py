"""Certify the pixels of a segmentation network.

    python examples/segmentation.py

Images of squares, discs and crosses are drawn here, a small U-Net learns to
find them under noise, and for each pixel of images that it has not seen a
certificate says how far an attack must go to change its class.

Writes images, masks and certified pixels into `output/`.
"""

import argparse
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
from networks import unet

import keras_smoothing as ks

CLASSES = ("background", "square", "disc", "cross")


def draw(count, size, seed):
    """Grey images with up to three shapes each, and their masks.

    Returns:
        x: float32 array, shape `(count, size, size, 1)`, in [0, 1].
        y: int64 array, shape `(count, size, size)`.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    shape = (count, size, size)
    x = np.broadcast_to(rng.uniform(0.1, 0.3, (count, 1, 1)), shape).copy()
    y = np.zeros(shape, np.int64)
    for image, mask in zip(x, y, strict=True):
        for _ in range(rng.integers(1, 4)):
            middle = rng.uniform(0.2 * size, 0.8 * size, 2)
            radius = rng.uniform(0.12, 0.22) * size
            away = np.abs([rows - middle[0], columns - middle[1]])
            kind = rng.integers(1, 4)
            inside = {
                1: away.max(axis=0) < 0.9 * radius,
                2: np.hypot(*away) < radius,
                3: (away.min(axis=0) < 0.35 * radius)
                & (away.max(axis=0) < 1.1 * radius),
            }[kind]
            image[inside], mask[inside] = rng.uniform(0.6, 1.0), kind
    x = np.clip(x + rng.normal(0, 0.03, x.shape), 0, 1)
    return x[..., np.newaxis].astype("float32"), y


def picture(result, x, path):
    """Four images, their masks, and what of them is certified."""
    figure, axes = plt.subplots(3, 4, figsize=(8, 6.4), squeeze=False)
    for i, column in enumerate(axes.T[: len(result)]):
        column[0].imshow(x[i, ..., 0], cmap="gray", vmin=0, vmax=1)
        result.plot_map(i, labels=True, ax=column[1])
        result.plot_map(i, ax=column[2])
    for ax in axes.flat:
        ax.set_axis_off()
    names = ("image", "truth", "certified")
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_title(name, loc="left")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="of the images")
    parser.add_argument("--train", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    print(f"\nTraining a U-Net under Gaussian noise, sigma {arguments.sigma}")
    x, y = draw(arguments.train, arguments.size, seed=0)
    model = ks.SmoothedSegmentation(
        unet(x.shape[1:], len(CLASSES)),
        ks.noise.Gaussian(sigma=arguments.sigma),
    )
    model.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=32, epochs=arguments.epochs, verbose=2)

    x, y = draw(arguments.examples, arguments.size, seed=1)
    print(f"\nCertifying {len(x)} images the model has not seen\n")
    print(model.plan(arguments.n, num_examples=len(x)))
    result = model.certify(x, y, n=arguments.n, seed=0)
    print("\nEach pixel with a radius of its own:")
    radii = np.array([0.0, 0.1, 0.25, 0.4])
    result.summary(radii)

    # Fixed before the votes are looked at: another claim of the same draws.
    radius = arguments.sigma
    fixed = result.recertify(0.001, correction="holm", radius=radius)
    print(f"\nAll pixels at the radius {radius}, by Holm's procedure:")
    fixed.summary([radius])
    both = [r.certified_accuracy(radius) for r in (result, fixed)]
    print(
        f"\nPixels right and certified at {radius}: {100 * both[0]:.1f}% by "
        f"Bonferroni, {100 * both[1]:.1f}% by Holm"
    )

    arguments.output.mkdir(exist_ok=True)
    path = arguments.output / "segmentation.png"
    picture(fixed, x, path)
    print(
        f"Saved {path}: grey is not certified, a cross is certified but wrong"
    )


if __name__ == "__main__":
    main()
