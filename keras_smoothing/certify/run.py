"""From datasets to certificates, for every family, here or on a cluster."""

import contextlib
import dataclasses
import functools
import secrets

import keras
import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.certify.model_checks import open_checked
from keras_smoothing.certify.on_cluster import on_cluster
from keras_smoothing.certify.task import Chunk
from keras_smoothing.cluster import Ray
from keras_smoothing.logs import CertificationLog
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs import header


def run(
    task,
    data,
    *,
    check_independence=True,
    family_wise=False,
    log=None,
    cluster=None,
    verbose="auto",
):
    """Certifies the examples that are not in the log yet.

    Args:
        task: `Task`.
        data: `Dataset`.
        check_independence: bool, as in `SmoothedModel.certify`.
        family_wise: bool, whether alpha is shared by all examples.
        log: path of a log, or None.
        cluster: `keras_smoothing.cluster.Ray`, or None for this process.
        verbose: "auto", 0, 1 or 2.

    Returns:
        the result for all examples.

    Raises:
        ValueError: if an argument is not as described, or nothing can be
            proved.
    """
    checks.one_of("verbose", verbose, ("auto", 0, 1, 2))
    if cluster is not None:
        checks.instance("cluster", cluster, Ray, "ks.cluster.Ray()")
    examples, answers, task = _opened(
        task, data, check_independence, family_wise
    )
    log = CertificationLog(
        log,
        header(
            task.model,
            task.sampler,
            task.claim,
            task.settings(answers),
            num_examples=examples.exact_total,
            seed=task.seed,
        ),
        task.claim,
    )
    task = task.begun(log)
    progress = Progress(examples.total, verbose)
    chunks = _new(_chunks(examples, answers, task), log, progress)
    for records in finished(task, chunks, cluster, progress.on_draws):
        progress.on_examples_end(log.append(records))
    progress.on_certify_end()
    return log.result()


def predict(task, data, *, check_independence=True):
    """Predicts examples with a task, without a log.

    Args:
        task: `Task` whose records are predictions.
        data: `Dataset`.
        check_independence: as in `run`.

    Returns:
        int64 array, shape `(examples, ...)`.

    Raises:
        ValueError: if nothing can be decided.
    """
    if task.seed is None:
        task = dataclasses.replace(task, seed=secrets.randbits(63))
    examples, answers, task = _opened(task, data, check_independence)
    chunks = _chunks(examples, answers, task)
    return np.concatenate(list(finished(task, chunks))).astype(np.int64)


def _opened(task, data, check_independence, family_wise=False):
    """The examples, the result of `sampler.answers`, and the prepared task."""
    examples, answers, batch_size = open_checked(
        data,
        task.sampler,
        window=task.window,
        draws=task.num_draws,
        batch_size=task.batch_size,
        searcher=task.searcher,
        check_independence=check_independence,
    )
    task = dataclasses.replace(task, model=fingerprint(task.sampler.base_model))
    task = task.prepared(examples, answers, batch_size, family_wise)
    return examples, answers, task


def finished(task, chunks, cluster=None, on_draws=lambda share: None):
    """Yields the records of each chunk, wherever it is sampled.

    Args:
        task: `Task`.
        chunks: iterator of `Chunk`.
        cluster: as in `run`.
        on_draws: function, called with the work done in this process, in
            examples.
    """
    if cluster is None:
        here = functools.partial(_sample_here, task.on_worker, on_draws)
        sampled = contextlib.nullcontext((chunk, here) for chunk in chunks)
    else:
        sampled = on_cluster(task, chunks, cluster)
    with sampled as pairs:
        for chunk, sample in pairs:
            yield task.finish(chunk, sample)


def _sample_here(task, on_draws, chunk, *settings):
    """Samples a chunk, and checks that the weights did not change.

    The check comes after the draws of a chunk and before anything is kept. It
    misses weights that changed and changed back in between.
    """
    sampled = task.sample(chunk, on_draws, *settings)
    if fingerprint(task.sampler.base_model) != task.model:
        raise RuntimeError(
            "Expected weights that stay as they are until all draws are done. "
            "Received: weights that changed meanwhile, as by training in "
            "another thread. Nothing is kept of the examples that were drawn "
            "for."
        )
    return sampled


def _chunks(examples, answers, task):
    """Yields a `Chunk` for each window of examples."""
    done = 0
    for x, labels, rounding in examples.windows(answers):
        index = np.arange(done, done + len(x))
        done += len(x)
        yield Chunk(x, task.labels_that_count(x, labels), index, rounding)


def _new(chunks, log, progress):
    """Yields the examples of each chunk that are not in the log.

    Raises:
        ValueError: if the log is about other examples.
    """
    resumed, done = list(log.records), 0
    for chunk in chunks:
        known = resumed[done : done + len(chunk.x)]
        _check_same_examples(known, chunk)
        first, done = done, done + len(chunk.x)
        if known:
            progress.on_examples_end(log.resumed[first : first + len(known)])
        if len(known) < len(chunk.x):
            _check_no_more(log, done)
            yield chunk.part(slice(len(known), None))
    if done < len(resumed):
        raise ValueError(
            f"The log has more rows than there are examples. Expected at most "
            f"{done}. Received: {len(resumed)}. `read_log` reads them all."
        )


def _check_no_more(log, examples):
    """Raises if the seed of a log was drawn for fewer examples."""
    most = log.settings["num_examples"]
    if most is not None and examples > most:
        raise ValueError(
            f"Expected at most {most} examples, as the log was begun for. "
            f"Received: {examples} or more. Its seed, which lies beside it, "
            "may be known to who chose the others: they need another log, with "
            "a fresh seed."
        )


def _check_same_examples(known, chunk):
    """Raises if rows of a log are about other examples than these."""
    for i, record in enumerate(known):
        for name, ours, theirs in (
            ("digest", example_digest(chunk.x[i]), record.digest),
            ("label", chunk.labels[i], record.label),
            ("rounding", chunk.rounding[i], record.rounding),
        ):
            if not _equal(ours, theirs):
                raise ValueError(
                    f"The log is of other examples. Expected {name} {ours} in "
                    f"row {chunk.index[i]}. Received: {theirs}. Pass the x and "
                    "y of the log, in the same order, or choose another path."
                )


def _equal(one, other):
    """Equality of None, numbers, texts or arrays; NaN equals NaN."""
    if one is None or other is None:
        return one is other
    if isinstance(one, str):
        return one == other
    return np.array_equal(one, other, equal_nan=np.result_type(one).kind == "f")


class Progress:
    """Shows the progress of a certification on Keras's progress bar.

    The bar shows the rate, the time left, and the means of the result's figures
    over the examples so far.

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
        """Adds draws, given as a share of all draws of one example."""
        self._drawn += share
        self._update(finalize=False)

    def on_examples_end(self, result):
        """Adds the result of finished examples."""
        self._examples += len(result)
        self._drawn = 0.0
        for name, values in result.figures().items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())
        # They are means already: the bar must not average them over updates.
        self._bar.stateful_metrics.update(self._sums)
        self._update(finalize=False)

    def on_certify_end(self):
        """Finishes the bar, however many examples were expected."""
        self._bar.target = self._examples
        self._update(finalize=True)

    def _update(self, finalize):
        # Rounded to the four digits that the bar shows.
        figures = [
            (name, float(at_least(value / self._examples, ".4f")))
            for name, value in self._sums.items()
        ]
        self._bar.update(self._examples + self._drawn, figures, finalize)
