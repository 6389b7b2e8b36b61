import keras

from keras_smoothing import certify
from keras_smoothing.base_model import output_spec
from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.certificates.stopping import StoppingRule
from keras_smoothing.logs import structure
from keras_smoothing.models.classes import SmoothedClasses
from keras_smoothing.sampling import ComponentSampler
from keras_smoothing.sampling import ballots
from keras_smoothing.sampling import vote_shares


class SmoothedComponents(SmoothedClasses):
    """A smoothed model that predicts a class for each component. Base class.

    Components are pixels or labels. The smoothed model gives each the class
    that the base model gives it most often under noise. All components share
    the draws.

    Args:
        base_model: as in `Smoothed`.
        noise: as in `Smoothed`.
        num_draws: as in `Smoothed`.
        seed: as in `Smoothed`.
        group: as in `Smoothed`.
        from_logits: as in `SmoothedClasses`.
        threshold: as in `SmoothedClasses`.
        output: as in `Smoothed`.

    Raises:
        ValueError: if an argument is not as described.
    """

    # The claim class of a subclass.
    claim_type = None
    # Whether its answers stay the same when the input is rearranged.
    takes_group = True

    def __init__(
        self,
        base_model,
        noise=None,
        num_draws=100,
        seed=None,
        group=None,
        from_logits=None,
        threshold=0.5,
        output=None,
        **kwargs,
    ):
        super().__init__(
            *(base_model, noise, num_draws, seed, group),
            *(from_logits, threshold, output),
            **kwargs,
        )
        if group is not None and not self.takes_group:
            raise ValueError(
                "Expected no `group`, whose elements move pixels while masks "
                f"stay where they are. Received: group={group}"
            )
        self._build_if_known()

    def predict_step(self, data):
        """Vote shares in the form of the base model's output, for `predict`."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        shares = vote_shares(
            self._sampler(),
            self._examples(x),
            self.num_draws,
            ballots.hard,
            self.seed_generator,
        )
        return self._in_form(shares)

    def classify(
        self,
        x,
        *,
        x_key=None,
        n=1_000,
        alpha=0.001,
        correction="bonferroni",
        batch_size=128,
        seed=None,
        check_independence=True,
    ):
        """Predicts with the smoothed model, or abstains, for each component.

        With probability at least `1 - alpha` for each example, every answer
        other than `ks.ABSTAIN` is the class most probable under noise.

        Args:
            x: as in `certify`.
            x_key: as in `certify`.
            n: int, draws for each example.
            alpha: float in (0, 1), the probability that any answer of an
                example is wrong.
            correction: "bonferroni"; or None, with which `alpha` holds for each
                single component. Holm's correction would need classes chosen
                by other draws.
            batch_size: int, noisy copies in one forward pass.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system.
            check_independence: bool, as in `certify`.

        Returns:
            int64 array, shape `(examples, *components)`. It is `ks.ABSTAIN`
            (-1) where the votes do not decide, where the base model returned
            NaN, and at padding that it masks.

        Raises:
            ValueError: for bad input, a base model that mixes the examples of a
                batch, or `n` too small to decide anything.
        """
        data = self._dataset(x, None, x_key, None)
        task = certify.ComponentPrediction(
            self._sampler(),
            None,
            n=_draws(n),
            alpha=alpha,
            correction=correction,
            seed=seed,
            batch_size=batch_size,
        )
        return certify.predict(
            task, data, check_independence=check_independence
        )

    def certify(
        self,
        x,
        y=None,
        *,
        x_key=None,
        y_key=None,
        n0=100,
        n=1_000,
        alpha=0.001,
        correction="bonferroni",
        radius=None,
        family_wise=False,
        batch_size=128,
        seed=None,
        log=None,
        check_independence=True,
        cluster=None,
        verbose="auto",
    ):
        """Certifies each component of the smoothed model's predictions.

        With probability at least `1 - alpha` for each example, all its
        certificates are true together: no input closer than the radius of a
        component changes its class. The guarantee assumes real-valued noise.
        float32 draws come close to it, except for a base model built to exploit
        their low-order bits.

        Args:
            x: array, tensor or dataset, as in `ks.SmoothedModel.certify`.
            y: class labels, integers of shape `(examples, *components)` or
                `(examples, *components, 1)`; or one-hot, of shape
                `(examples, *components, classes)`. -1 marks components that do
                not count, such as padding that the base model masks. Whole
                floats and, for two classes, bools count as integers. None for
                no labels, or for a dataset, which yields its own.
            x_key: as in `ks.SmoothedModel.certify`.
            y_key: as in `ks.SmoothedModel.certify`.
            n0: int, draws that select the classes.
            n: int, further draws that estimate their probabilities.
            alpha: float in (0, 1), the probability that any certificate of an
                example is wrong.
            correction: how `alpha` is shared among components. "bonferroni"
                gives each component the radius that its votes prove. "holm"
                certifies all components at one `radius`, fixed beforehand, and
                certifies more of them at that radius. With None, `alpha` holds
                for each single component, and nothing is stated about all of
                them together.
            radius: float, with "holm", in the units of the input; else None.
            family_wise: bool, whether `alpha` is the probability that any
                certificate of any example is wrong.
            batch_size: int, noisy copies in one forward pass. It is reduced,
                with a warning, if a pass would need over half of the free
                memory. Draws do not depend on it, nor on the order of the
                examples; the rounding of a forward pass may, and can change
                a vote that is nearly tied.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system. Keep the seed secret until x is chosen:
                an adversary who knows it can tailor x to these draws. The seed
                of a log is in the file beside it, `<log>.json`.
            log: path of a log, or None. Rows are written for up to 16
                examples at a time. The same call resumes an interrupted run,
                with the same results. Further examples belong in another log,
                as in `SmoothedModel.certify`.
            check_independence: bool, as in `SmoothedModel.certify`.
            cluster: `ks.cluster.Ray`, whose workers certify, with the same
                results; or None for this process.
            verbose: "auto" or 1 for a progress bar, 2 for one line, 0 for
                silence.

        Returns:
            `ks.SegmentationResult` or `ks.MultiLabelResult`.

        Raises:
            ValueError: for bad input, noise without a radius formula, a base
                model that mixes the examples of a batch, `n` too small to
                certify anything, or a log of another run. Examples of a
                dataset are checked as they are read; rows already logged stay
                valid.
        """
        data = self._dataset(x, y, x_key, y_key)
        task = certify.Components(
            self._sampler(),
            self._claim(n, alpha, correction, radius),
            n0=n0,
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
        alpha=0.001,
        *,
        correction="bonferroni",
        radius=None,
        n0=100,
        num_examples=1,
        batch_size=128,
    ):
        """Tells before a run what it can certify and what it costs.

        Args:
            n: int, as in `certify`.
            alpha: as in `certify`.
            correction: as in `certify`.
            radius: as in `certify`. The plan's `smallest_n` is for this radius.
            n0: int, draws that select the classes.
            num_examples: int, how many examples are to be certified.
            batch_size: int, noisy copies in one forward pass, which is timed
                for about two seconds.

        Returns:
            `ks.Plan`, which prints as sentences.

        Raises:
            ValueError: for arguments out of range, noise without a radius
                formula, or a base model without a known input shape.
        """
        return certify.plan_components(
            self._sampler(),
            self._claim(n, alpha, correction, radius),
            certify.example_shape(self.answer_model),
            n0=n0,
            num_examples=num_examples,
            batch_size=batch_size,
        )

    def _check_answer(self, shape):
        self._sampler().answers(shape)

    def _is_binary(self):
        shape = self._example_shape()
        if shape is None:
            return False
        output = output_spec(self.answer_model, shape)
        sizes = tuple(getattr(output, "shape", ()))[1:]
        return len(sizes) > 1 and sizes[-1] == 1

    def _in_form(self, shares):
        """Shares of classes, in the form of the base model's output."""
        return shares[..., 1:] if self._is_binary() else shares

    def _claim(self, n, alpha, correction, radius):
        return self.claim_type(
            self.noise, alpha, _draws(n), correction, radius, self.group
        )

    def _sampler(self):
        return self._keep(
            None,
            None,
            structure,
            lambda: ComponentSampler(
                self.classifier, self.noise, group=self.group
            ),
        )

    def _labels(self):
        axes, classes = None, None
        shape = self._example_shape()
        if shape is not None:
            output = output_spec(self.answer_model, shape)
            _, *components, size = output.shape
            axes, classes = len(components), 2 if size == 1 else size
        return ClassLabels(axes, classes, "what does not count")


def _draws(n):
    if isinstance(n, StoppingRule):
        raise ValueError(
            "Expected an integer `n`, the same number of draws for all "
            "components of an example: a stopping rule follows one. Received: "
            f"n={n}"
        )
    return n
