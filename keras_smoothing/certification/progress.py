import keras

from keras_smoothing.rounding import at_least


class Progress:
    """Shows the progress of a certification on Keras's progress bar.

    Rate, time left, and the means of a result's figures over the examples so
    far.

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
            stateful_metrics=(),
        )
        self._examples = 0
        self._drawn = 0.0
        self._sums = {}

    def on_draws(self, share):
        """Draws worth a share of all the draws of one example are done."""
        self._drawn += share
        self._update(finalize=False)

    def on_examples_end(self, result):
        """Some examples are finished: their result."""
        self._examples += len(result)
        self._drawn = 0.0
        for name, values in result.figures().items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())
        # They are means already, and not to be averaged over the updates.
        self._bar.stateful_metrics.update(self._sums)
        self._update(finalize=False)

    def on_certify_end(self):
        """All examples are finished, however many were expected."""
        self._bar.target = self._examples
        self._update(finalize=True)

    def _update(self, finalize):
        # In the four digits that the bar shows.
        figures = [
            (name, float(at_least(value / self._examples, ".4f")))
            for name, value in self._sums.items()
        ]
        self._bar.update(self._examples + self._drawn, figures, finalize)
