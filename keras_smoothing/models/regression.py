import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing import certify
from keras_smoothing.base_model import boxes_shape
from keras_smoothing.base_model import numbers_shape
from keras_smoothing.certificates import BoxClaim
from keras_smoothing.certificates import MedianClaim
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.labels import BoxLabels
from keras_smoothing.certificates.labels import NumberLabels
from keras_smoothing.logs import structure
from keras_smoothing.models.smoothed import Smoothed
from keras_smoothing.noise.noise import exact_sum
from keras_smoothing.sampling import OutputSampler


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedRegression(Smoothed):
    """A regression smoothed by noise, with intervals that can be certified.

    The smoothed regression answers with the median of what the base model
    returns when noise is added to its input, in each coordinate of the answer.
    `certify` finds intervals in which it stays wherever the input moves within
    a ball. `fit`, `evaluate` and a plain call are those of the base model under
    fresh noise; `predict` returns the medians of `num_draws` draws.

    Unlike a mean, a median of outputs without bounds can be certified. It is
    that of each coordinate by itself.

    Args:
        base_model: Keras model from an input `(batch, ...)` to real numbers
            `(batch, ...)`. Weights are shared, not copied. One that begins with
            always-on noise (`ks.add_input_noise`) and comes without `noise` is
            taken apart, so that its noise is added once.
        noise: `keras_smoothing.noise.Noise`, or a dict with that of one of
            several inputs; or None for the noise that `base_model` begins with.
            Its scale, and all radii, are in the units of the input given to
            this model.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: `keras_smoothing.groups.Group` or None. Each draw then applies
            one random element of it to the input. The medians are exactly
            invariant, and their intervals hold around every rearrangement of
            the input. For answers that do not move with the input.
        output: str, the name of the output that is the answer, of a base model
            with several, as of `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    x = np.random.rand(200, 8).astype("float32")
    y = x.sum(axis=1)
    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(sigma=0.25))
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    result = model.certify(x[:10], y[:10], radii=[0.0, 0.25], verbose=0)
    lower, upper = result.at(0.25)
    print(result.statement)
    ```

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    _claim = MedianClaim
    _answer_shape = staticmethod(numbers_shape)

    def __init__(
        self,
        base_model,
        noise=None,
        num_draws=100,
        seed=None,
        group=None,
        output=None,
        **kwargs,
    ):
        super().__init__(
            base_model, noise, num_draws, seed, group, output, **kwargs
        )
        self._build_if_known()

    def predict_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        x = self._examples(x)
        shape = tuple(x.shape[1:])
        seed = self.seed_generator
        noise = self.noise.sample((self.num_draws, *shape), seed)
        where = self.noise.where(x)
        elements = ops.zeros((self.num_draws, 0), "int32")
        if self.group is not None:
            elements = self.group.sample(self.num_draws, shape, seed)

        def of_draw(i):
            copies = x
            if self.group is not None:
                copies = self.group.orbit(x, elements[i : i + 1])[:, 0]
            drawn = noise[i]
            if where is not None:
                drawn = ops.where(where, drawn, 0.0)
            outputs = self.answer_model(
                exact_sum(copies, drawn), training=False
            )
            outputs = ops.cast(outputs, "float32")
            return ops.where(ops.isnan(outputs), float("inf"), outputs)

        numbers = ops.arange(self.num_draws, dtype="int32")
        outputs = backend.map(of_draw, numbers)
        backend.refuse_python()
        return ops.sort(outputs, axis=0)[(self.num_draws - 1) // 2]

    def certify(
        self,
        x,
        y=None,
        *,
        radii,
        x_key=None,
        y_key=None,
        n=10_000,
        alpha=0.001,
        correction="bonferroni",
        family_wise=False,
        batch_size=1024,
        seed=None,
        log=None,
        check_independence=True,
        cluster=None,
        verbose="auto",
    ):
        """Certifies intervals of the smoothed answers.

        With probability at least `1 - alpha`, for each example and radius, all
        medians at all points closer than the radius lie in the interval of that
        radius; `result.statement` says it in full. This is about noise over the
        real numbers, to which float32 draws come close; a base model made to
        look at their last bits is beyond it.

        The outputs of all draws are kept for as many examples as fit in 128 MiB
        together, or for one, and sorted. Nothing is selected by draws, so none
        are spent on that, and none are kept: another `alpha` or radius needs
        another call.

        Args:
            x: array, tensor or dataset of examples, as in
                `SmoothedModel.certify`.
            y: labels, floats or integers of the shape of the answers; `(
                examples,)` for one number each; or None. With them, results
                know certified errors. Of a detector, the true boxes,
                `(examples, g, 4)`: x1, y1, x2, y2, or NaN where there are
                fewer.
            radii: float or floats >= 0, increasing: of the balls, in the norm
                of the noise and in input units. Radius 0 is the example itself.
            x_key: str or None, as in `SmoothedModel.certify`.
            y_key: str or None, as there.
            n: int, draws for each example. Larger radii need more: see `plan`.
            alpha: float in (0, 1), failure probability of the intervals of an
                example at one radius.
            correction: "bonferroni", with which all coordinates of the answer
                are in their intervals together; or None, to share `alpha` out
                over the two ends of each interval only: it then holds for each
                coordinate by itself.
            family_wise: bool, whether `alpha` is the probability that any
                example fails (at one radius), instead of each (Bonferroni).
            batch_size: int, noisy copies in one forward pass; fewer, with
                a warning, where these would need over half of the memory
                that is free. Draws do not depend on it, nor on the order of
                the examples; the rounding of a forward pass may.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system. Who knows the seed before choosing x can
                choose it against the draws. A log has its seed in the file
                beside it, `<log>.json`.
            log: path of a log, or None. A run that was interrupted is resumed
                by the same call, with the same results. Further examples
                belong into another log, as in `SmoothedModel.certify`.
            check_independence: bool, as in `SmoothedModel.certify`.
            cluster: `ks.cluster.Ray`, whose workers certify, with the same
                results; or None for this process.
            verbose: "auto" or 1 for a progress bar, 2 for one line, 0 for
                silence.

        Returns:
            `keras_smoothing.IntervalResult`; of a `SmoothedDetector`, a
            `keras_smoothing.DetectionResult`.

        Raises:
            ValueError: for bad input, noise without a radius formula, a base
                model that mixes the examples of a batch, `n` too small for any
                of the radii, or a log of another run.
        """
        data = self._dataset(x, y, x_key, y_key)
        task = certify.Intervals(
            self._sampler(),
            self._claim(self.noise, alpha, n, radii, correction, self.group),
            seed=seed,
            batch_size=batch_size,
        )
        return certify.run(
            task,
            data,
            check_independence=check_independence,
            family_wise=family_wise,
            log=log,
            cluster=cluster,
            verbose=verbose,
        )

    def plan(
        self,
        n,
        alpha,
        radii,
        *,
        correction="bonferroni",
        family_wise=False,
        num_examples=1,
        batch_size=1024,
    ):
        """Says before a run which intervals it can prove, and what it costs.

        Args:
            n: int, as in `certify`.
            alpha: float, as there.
            radii: float or floats, as there.
            correction: "bonferroni" or None, as there.
            family_wise: bool, as there.
            num_examples: int, how many examples are to be certified.
            batch_size: int, as there.

        Returns:
            `IntervalPlan`, which prints as sentences: at which radii intervals
            are finite, how many draws each takes at least, and the time, by a
            measurement of about two seconds.

        Raises:
            ValueError: as `certify`, or for a model without a known input
                shape.
        """
        num_examples = checks.positive_int("num_examples", num_examples)
        claim = self._claim(self.noise, alpha, n, radii, correction, self.group)
        if family_wise:
            claim = claim.shared_by(num_examples)
        return certify.plan_intervals(
            self._sampler(), claim, num_examples, batch_size
        )

    def _check_answer(self, shape):
        self._answer_shape(self.answer_model, shape)

    def _sampler(self):
        return self._keep(
            None,
            None,
            structure,
            lambda: OutputSampler(
                self.answer_model, self.noise, self.group, self._answer_shape
            ),
        )

    def _labels(self):
        return NumberLabels()


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedDetector(SmoothedRegression):
    """A detector smoothed by noise, whose boxes can be certified.

    It answers with a fixed number of slots, as `ks.layers.SortedBoxes` makes
    them of any detector's boxes. The box of a slot has, as each of its edges,
    the median of what the base model returns there under the noise; it is
    infinite where more than half of the draws find no box for the slot.
    `certify` finds intervals in which all edges stay wherever the image moves
    within a ball, and so the least overlap with the true boxes.

    All else is as of `SmoothedRegression`.

    Args:
        base_model: Keras model from images `(batch, ...)` to boxes
            `(batch, slots, 4)`: x1, y1, x2, y2, with x1 < x2 and y1 < y2, or
            infinite in all four where there is none.
        noise: `keras_smoothing.noise.Noise`, or a dict with that of one of
            several inputs; or None for the noise that `base_model` begins with.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: None: boxes move along with the image, so that their medians
            under a group would say nothing, and `certify` refuses one.
        output: str, the name of the output that is the answer, of a base model
            with several, as of `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    image = keras.Input((8, 8, 1))
    numbers = keras.layers.Flatten()(image)
    boxes = keras.layers.Reshape((6, 4))(keras.layers.Dense(24)(numbers))
    scores = keras.layers.Dense(6, activation="sigmoid")(numbers)
    slots = ks.layers.SortedBoxes(max_boxes=3)(boxes, scores)
    detector = keras.Model(image, slots)
    model = ks.SmoothedDetector(detector, ks.noise.Gaussian(sigma=0.1))
    x = np.random.rand(2, 8, 8, 1).astype("float32")
    result = model.certify(x, radii=[0.0, 0.1], n=1_000, verbose=0)
    result.present
    ```

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    _claim = BoxClaim
    _answer_shape = staticmethod(boxes_shape)

    def _labels(self):
        return BoxLabels()
