"""Draws certified accuracy, and accuracy under attack above it.

    python docs/scripts/sandwich.py

Trains the network of the quickstart on the handwritten digits, certifies all
360 test images, attacks them, and writes `docs/assets/sandwich.svg`. Takes
some minutes.
"""

import pathlib
import sys

import keras
import matplotlib as mpl
import numpy as np

import keras_smoothing as ks

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from quickstart import build_base_model  # noqa: E402

STRENGTHS = np.arange(0, 1.51, 0.125)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sandwich",
    "figure.figsize": (7, 3.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "#fcfcfb",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "sans-serif",
}


def main():
    keras.utils.set_random_seed(0)
    x, y = ks.datasets.load("digits", "train")
    x_test, y_test = ks.datasets.load("digits", "test")
    model = ks.SmoothedModel(
        build_base_model((8, 8, 1)), ks.noise.Gaussian(sigma=0.25), seed=0
    )
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(x, y, batch_size=128, epochs=60, verbose=0)
    certified = model.certify(x_test, y_test, n=10_000, seed=0, verbose=2)
    attacked = ks.evaluation.robust_accuracy(
        model,
        x_test,
        y_test,
        ks.attacks.l2_pgd,
        STRENGTHS,
        num_draws=[16],
        from_logits=True,
        num_steps=20,
        verbose=0,
    )
    print(attacked.table(certified))
    with mpl.rc_context(STYLE):
        ax = attacked.plot(certified)
        ax.set(xlabel="l2 distance", xlim=(0, 1.5), ylim=(0, 1.02))
        ax.get_legend().remove()
        ax.annotate("l2-PGD, 16 draws", (0.9, attacked.accuracy[0][7] + 0.05))
        ax.annotate("certified", (0.45, 0.45), ha="right")
        ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        ax.figure.savefig(
            ROOT / "docs" / "assets" / "sandwich.svg",
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )


if __name__ == "__main__":
    main()
