import keras
import numpy as np


class Progress:
    """Shows the progress of a certification on Keras's progress bar.

    Rate, time left, and, with labels, certified accuracy at radius 0 and
    average certified radius of the examples so far.

    Args:
        total: int or None, how many examples there are.
        verbose: "auto" or 1 for a bar, 2 for one line at the end, 0 for
            silence.
    """

    def __init__(self, total, verbose):
        self._bar = keras.utils.Progbar(
            total,
            verbose=1 if verbose == "auto" else verbose,
            unit_name="example",
            stateful_metrics=["certified_accuracy", "acr"],
        )
        self._examples = 0
        self._drawn = 0.0
        self._correct = 0
        self._radius = 0.0
        self._labelled = False

    def on_draws(self, share):
        """Draws worth a share of all the draws of one example are done."""
        self._drawn += share
        self._update(finalize=False)

    def on_examples_end(self, result):
        """Some examples are finished: their `CertificationResult`."""
        self._examples += len(result)
        self._drawn = 0.0
        self._labelled = result.label is not None
        if self._labelled:
            self._correct += int(np.sum(result.correct))
            self._radius += float(np.sum(result.radius * result.correct))
        self._update(finalize=False)

    def on_certify_end(self):
        """All examples are finished, however many were expected."""
        self._bar.target = self._examples
        self._update(finalize=True)

    def _update(self, finalize):
        figures = []
        if self._labelled:
            figures = [
                ("certified_accuracy", self._correct / self._examples),
                ("acr", self._radius / self._examples),
            ]
        self._bar.update(self._examples + self._drawn, figures, finalize)
