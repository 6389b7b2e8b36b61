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
    """A regression model smoothed by noise, with certified intervals.

    The smoothed regression returns the median of the base model's outputs when
    noise is added to its input, for each coordinate by itself. `certify` finds
    intervals that contain this median wherever the input moves within a ball.
    `fit`, `evaluate` and a plain call use the base model under fresh noise.
    `predict` returns the medians of `num_draws` draws.

    Unlike a mean, the median of unbounded outputs can be certified.

    Args:
        base_model: Keras model from an input `(batch, ...)` to real numbers
            `(batch, ...)`. Weights are shared, not copied. Without `noise`, a
            model that begins with always-on noise (`ks.add_input_noise`) is
            split after that layer, so that its noise is added only once.
        noise: `keras_smoothing.noise.Noise`, or a dict from the name of one of
            several inputs to its noise; or None for the noise that
            `base_model` begins with. Its scale and all radii are in the units
            of the input given to this model.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: `keras_smoothing.groups.Group` or None. With a group, each draw
            applies one random element of it to the input. The medians are then
            exactly invariant, and their intervals hold around every
            rearrangement of the input. Use it only for outputs that do not move
            with the input.
        output: str, for a base model with several outputs, the name of the one
            to smooth, as in `ks.SmoothedModel`.

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
        """Certifies intervals of the smoothed outputs.

        With probability at least `1 - alpha`, for each example and radius, all
        medians at all points closer than the radius lie in the interval of that
        radius; `result.statement` says it in full. The guarantee assumes
        real-valued noise. float32 draws come close to it, except for a base
        model built to exploit their low-order bits.

        The outputs of all draws are held and sorted for as many examples as fit
        into 128 MiB together, at least one. No draws are spent on selection.
        Draws are not kept afterwards: another `alpha` or radius needs another
        call.

        Args:
            x: array, tensor or dataset of examples, as in
                `SmoothedModel.certify`.
            y: labels, floats or integers of the shape of the outputs, or
                `(examples,)` for one number each; or None. With labels, results
                include certified errors. For a detector, the true boxes,
                `(examples, g, 4)`: x1, y1, x2, y2, with NaN in place of missing
                boxes.
            radii: float or floats >= 0, increasing: the radii of the balls, in
                the norm of the noise and in input units. Radius 0 is the
                example itself.
            x_key: str or None, as in `SmoothedModel.certify`.
            y_key: str or None, as in `SmoothedModel.certify`.
            n: int, draws for each example. Larger radii need more: see `plan`.
            alpha: float in (0, 1), failure probability of the intervals of an
                example at one radius.
            correction: "bonferroni", with which all coordinates of the output
                are in their intervals together; or None, with which `alpha` is
                shared only by the two ends of each interval, and holds for each
                coordinate by itself.
            family_wise: bool, whether `alpha` is the probability that any
                example fails (at one radius), instead of each (Bonferroni).
            batch_size: int, noisy copies in one forward pass. It is reduced,
                with a warning, if a pass would need over half of the free
                memory. Draws do not depend on it, nor on the order of the
                examples; the rounding of a forward pass may.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system. Keep the seed secret until x is chosen:
                an adversary who knows it can tailor x to these draws. The seed
                of a log is in the file beside it, `<log>.json`.
            log: path of a log, or None. The same call resumes an interrupted
                run, with the same results. Further examples belong in another
                log, as in `SmoothedModel.certify`.
            check_independence: bool, as in `SmoothedModel.certify`.
            cluster: `ks.cluster.Ray`, whose workers certify, with the same
                results; or None for this process.
            verbose: "auto" or 1 for a progress bar, 2 for one line, 0 for
                silence.

        Returns:
            `keras_smoothing.IntervalResult`; for a `SmoothedDetector`,
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
        """Tells before a run which intervals it can prove, and what it costs.

        Args:
            n: int, as in `certify`.
            alpha: float, as in `certify`.
            radii: float or floats, as in `certify`.
            correction: "bonferroni" or None, as in `certify`.
            family_wise: bool, as in `certify`.
            num_examples: int, how many examples are to be certified.
            batch_size: int, as in `certify`.

        Returns:
            `IntervalPlan`, which prints as sentences: at which radii intervals
            are finite, how many draws each needs at least, and how long the run
            takes, measured for about two seconds.

        Raises:
            ValueError: as in `certify`, or for a model without a known input
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
    """A detector smoothed by noise, with certified boxes.

    It returns a fixed number of slots, which `ks.layers.SortedBoxes` makes from
    the boxes of any detector. Each edge of a slot's box is the median of that
    edge under the noise. The box is infinite where more than half of the draws
    find no box for the slot. `certify` finds intervals that contain all edges
    wherever the image moves within a ball, and thus the least overlap with the
    true boxes.

    Everything else is as in `SmoothedRegression`.

    Args:
        base_model: Keras model from images `(batch, ...)` to boxes
            `(batch, slots, 4)`: x1, y1, x2, y2, with x1 < x2 and y1 < y2, or
            infinite in all four where there is no box.
        noise: `keras_smoothing.noise.Noise`, or a dict from the name of one of
            several inputs to its noise; or None for the noise that
            `base_model` begins with.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: None. Boxes move with the image, so their medians under a group
            would say nothing, and `certify` refuses a group.
        output: str, for a base model with several outputs, the name of the one
            to smooth, as in `ks.SmoothedModel`.

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
