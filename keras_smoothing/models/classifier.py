import keras

from keras_smoothing import certify
from keras_smoothing.base_model import is_binary
from keras_smoothing.base_model.outputs import num_classes
from keras_smoothing.certificates import FixedSampling
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.export import export_model
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs import structure
from keras_smoothing.memory import CertificationMemory
from keras_smoothing.models.classes import SmoothedClasses
from keras_smoothing.sampling import VoteSampler
from keras_smoothing.sampling import ballots
from keras_smoothing.sampling import vote_shares
from keras_smoothing.serialized.forms import Form
from keras_smoothing.sigma_search import DataDependentSigma
from keras_smoothing.sigma_search import Searcher
from keras_smoothing.sigma_search import SigmaSearch


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedModel(SmoothedClasses):
    """A classifier smoothed by noise, whose predictions can be certified.

    The smoothed classifier answers with the class that the base model predicts
    most often when noise is added to its input. `fit` trains the base model
    under fresh noise at every step; `evaluate` and a plain call give loss,
    metrics and outputs of one noisy pass, as in training. `predict`,
    `classify` and `certify` are about the smoothed classifier: `predict`
    returns the shares of the votes among `num_draws` draws, `(batch, classes)`,
    or `(batch, 1)`, those of class 1, for a binary base model.

    With `voting="soft"` it answers with the class of the largest mean
    probability instead, as attacks and training objectives see it. The same
    radii hold for it: in `classify` and `certify` each draw votes for a class
    sampled from the probabilities, so that all statistics stay exact; `predict`
    returns the mean.

    The scale of the noise and the certified radii are in the units of the
    input given to this model. Normalisation inside the base model comes after
    the noise and changes nothing of that.

    Where the base model begins with `keras.layers.Masking`, padding gets no
    noise. Certificates are then about the valid steps, among inputs with the
    same padding.

    Args:
        base_model: Keras model from an input `(batch, ...)` to `(batch,
            classes)`, logits or probabilities, or a binary one to `(batch, 1)`;
            or a functional one with several inputs of known sizes, whose noisy
            one is named by `noise`, or several outputs, one of them named by
            `output`. Weights are shared, not copied.
            One that begins with always-on noise (`ks.add_input_noise`) and
            comes without `noise` is taken apart, so that its noise is added
            once.
        noise: `keras_smoothing.noise.Noise`; or a dict from the name of one
            input to its noise. What is certified of several inputs holds while
            that one moves and all others stay as they are. None for the noise
            that `base_model` begins with.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        voting: "hard", or "soft" for a base model that returns probabilities.
        group: `keras_smoothing.groups.Group` or None. Each draw then applies
            one random element of it to the input, in training too. The
            smoothed classifier is exactly invariant, and its certificates hold
            around every rearrangement of the input, at no cost in draws.
        from_logits: bool, of a binary base model: whether it returns the logit
            of class 1, instead of its probability; None to tell by the last
            activation.
        threshold: float in (0, 1), of a binary base model: it votes for class 1
            where the probability is larger.
        output: str, the name of the output whose classes are smoothed, of a
            base model with several: a key of its dict, or the name of a layer.
            `fit`, `evaluate` and a plain call go on with all of them.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    x = np.random.rand(200, 8).astype("float32")
    y = (x.sum(axis=1) > 4).astype("int64")
    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=2, verbose=0)
    result = model.certify(x[:10], y[:10], n=1_000, seed=0, verbose=0)
    result.summary()
    ```

    Of two inputs, one is smoothed:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    image = keras.Input((8,), name="image")
    age = keras.Input((1,), name="age")
    both = keras.layers.Concatenate()([image, age])
    base = keras.Model([image, age], keras.layers.Dense(2)(both))
    model = ks.SmoothedModel(base, noise={"image": ks.noise.Gaussian(0.25)})
    x = {"image": np.random.rand(10, 8), "age": np.arange(10)}
    model.certify(x, n=1_000, seed=0, verbose=0).distance
    # "l2 ('image', all else fixed)"
    ```

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    - [Salman et al., 2019](https://arxiv.org/abs/1906.04584) for soft voting
    """

    def __init__(
        self,
        base_model,
        noise=None,
        num_draws=100,
        seed=None,
        voting="hard",
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
        checks.one_of("voting", voting, ("hard", "soft"))
        self.voting = voting
        self._build_if_known()

    def predict_step(self, data):
        """Vote shares; `predict` returns them."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        shares = self.vote_shares(self._examples(x), self.seed_generator)
        # In the form of the base model.
        return shares[:, 1:] if self._is_binary() else shares

    def vote_shares(self, x, seed):
        """Shares of the votes among `num_draws` draws, in a graph.

        Args:
            x: tensor, shape `(batch, ...)`, of floating type.
            seed: `keras.random.SeedGenerator`.

        Returns:
            float32 tensor, shape `(batch, classes)`; with soft voting mean
            probabilities.
        """
        ballot = ballots.soft if self.voting == "soft" else ballots.hard
        return vote_shares(self._sampler(), x, self.num_draws, ballot, seed)

    def classify(
        self,
        x,
        *,
        x_key=None,
        n=1_000,
        alpha=0.001,
        batch_size=1024,
        seed=None,
        check_independence=True,
        serialized=None,
        sigma=None,
        memory=None,
    ):
        """Predicts with the smoothed classifier, or abstains.

        An answer other than `ks.ABSTAIN` is, with probability at least
        `1 - alpha` for each example, the class most probable under noise.

        Args:
            x: as in `certify`. Where float32 rounds it, so many votes are
                discounted as the noise around both inputs may differ in; with
                a memory, a small ball has to be certified that reaches it. Of
                noise without a norm nothing is certified, and the answer is
                about the rounded input.
            x_key: as in `certify`.
            n: int, draws for each example.
            alpha: float in (0, 1), probability of a wrong answer.
            batch_size: int, noisy copies in one forward pass.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system.
            check_independence: bool, as in `certify`.
            serialized: as in `certify`.
            sigma: as in `certify`.
            memory: as in `certify`. What is answered without a certificate is
                promised too, of that input alone. An earlier promise answers
                whatever its own `alpha` was. With a `total_alpha` each query
                is tested at its share of it, if that is smaller than `alpha`.

        Returns:
            int64 array, shape `(examples,)`; `ks.ABSTAIN` (-1) where the votes
            do not decide, or where the base model returned NaN, unless an
            earlier promise says the class.

        Raises:
            ValueError: for bad input, a base model that mixes the examples of a
                batch, or `n` too small to decide anything.
        """
        data = self._dataset(x, None, x_key, None)
        sampler = self._sampler(serialized)
        task = certify.Prediction(
            sampler,
            sampler.claim(alpha, FixedSampling(n)),
            seed=seed,
            batch_size=batch_size,
            searcher=self._searcher(sigma),
            memory=self._memory(memory),
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
        n=None,
        stopping=None,
        alpha=0.001,
        top_k=1,
        family_wise=False,
        batch_size=1024,
        seed=None,
        log=None,
        check_independence=True,
        serialized=None,
        sigma=None,
        memory=None,
        cluster=None,
        verbose="auto",
    ):
        """Certifies predictions of the smoothed classifier.

        With probability at least `1 - alpha` for each example, the smoothed
        classifier's prediction is constant within the radius returned (with
        `top_k`: is among its k most voted classes). This is a statement about
        noise over the real numbers, to which float32 draws come close; a base
        model made to look at their last bits is beyond it.

        Args:
            x: array or tensor, shape `(examples, ...)`, of floating type; or a
                `keras.utils.PyDataset` or `tf.data.Dataset` (batched or not) of
                x or (x, y), which is finite, keeps its order and may be larger
                than memory; or a `ray.data.Dataset`, whose columns are the
                entries of a dict, and which is read into the memory of its
                cluster. Each x may be a dict of arrays; of several inputs it
                is, by their names, or a list in the order of a model's list.
                A `tf.RaggedTensor` is padded with the mask value of a base
                model that begins with `keras.layers.Masking`; for any other
                its rows have to be of one length.
                Numbers that float32 does not hold are rounded for the draws,
                and the radius is less by the distance that moves them.
            y: class labels, integers of shape `(examples,)` or `(examples, 1)`,
                or one-hot `(examples, classes)`; whole floats and, for two
                classes, bool are integers too. Or None, as beside a dataset,
                which brings its own.
            x_key: str or None, the entry of x in a dict; None for the names of
                the base model's inputs. Other entries are left alone.
            y_key: str or None, the entry of the labels in the same dict; None
                for no labels, or those of y or (x, y).
            n0: int, draws that select the class.
            n: int or None, further draws that estimate its probability: short
                for `FixedSampling(n)`. 100_000 unless `stopping` is given.
            stopping: `ks.AdaptiveSampling` or `ks.FixedSampling`, how many
                draws an example gets; or None.
            alpha: float in (0, 1), failure probability of each certificate.
            top_k: int. Above 1 the claim is that a class stays among the
                `top_k` most voted: the label, or without labels the class most
                voted at x.
            family_wise: bool, whether `alpha` is the probability that any of
                the certificates fails, instead of each (Bonferroni).
            batch_size: int, noisy copies in one forward pass; fewer, with
                a warning, where these would need over half of the memory
                that is free. Draws do not depend on it, nor on the order of
                the examples; the rounding of a forward pass may, and move
                a vote that is nearly tied.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system. Who knows the seed before choosing x can
                choose it against the draws. A log has its seed in the file
                beside it, `<log>.json`.
            log: path of a log, or None. Rows are written for up to 16
                examples at a time (128 with adaptive sampling), as soon as
                they are certified. A run that was interrupted is resumed by
                the same call, with the same results as without the
                interruption. Examples chosen after the log was begun, when its
                seed can be read, belong into another log: with `seed=None`
                more than it was begun for are refused, where their number was
                known then.
            check_independence: bool, whether to try, on noisy copies of the
                first examples, that the base model's answer to an input does
                not depend on what else is in the batch; a certificate is about
                one input. It costs a few forward passes of full batches.
            serialized: `ks.serialized.Exact` or `Audited`, how to find the
                votes of a base model with a `DeepEquilibrium` layer in fewer
                steps; or None.
            sigma: `ks.DataDependentSigma` or `ks.ANCER`, how the noise of each
                example is chosen; or None for that of the model. A classifier
                that chooses its noise by the input is certified by a `memory`
                only; without one a warning says so, and result and log do.
            memory: `ks.CertificationMemory`, the promises made; or None. An
                example inside a ball that was promised is answered from there,
                without draws; any other is certified, up to what was promised
                of other classes, and promised from then on, in the order of
                the examples. Pass the same memory to `classify`. Mistakes of
                its answers add up: see `ks.CertificationMemory` for what holds
                of all of them together.
            cluster: `ks.cluster.Ray`, whose workers certify, with the same
                results; or None for this process.
            verbose: "auto" or 1 for a progress bar, 2 for one line, 0 for
                silence.

        Returns:
            `keras_smoothing.CertificationResult`.

        Raises:
            ValueError: for bad input, noise without a radius formula, a base
                model that mixes the examples of a batch, `n` too small to
                certify anything, a log of another run, or a memory of another
                model, norm, shape, group, voting or form of serialized
                smoothing. Examples of a dataset are checked as they are read;
                rows already logged stay valid.
            OSError: for a memory that cannot be reached, read or written.
        """
        if stopping is None:
            stopping = FixedSampling(100_000 if n is None else n)
        elif n is not None:
            raise ValueError(
                "Expected either `n` or `stopping`. Received: "
                f"n={n}, stopping={stopping}"
            )
        data = self._dataset(x, y, x_key, y_key)
        sampler = self._sampler(serialized)
        task = certify.Classification(
            sampler,
            sampler.claim(alpha, stopping, top_k),
            n0=n0,
            seed=seed,
            batch_size=batch_size,
            searcher=self._searcher(sigma),
            memory=self._memory(memory),
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
        n0=100,
        num_examples=1,
        batch_size=1024,
        serialized=None,
    ):
        """Says before a run what it can certify and what it costs.

        As `ks.plan`, for this model and its noise.

        Args:
            n: int, draws of the estimate for each example.
            alpha: float in (0, 1), the failure probability of each certificate.
            n0: int, draws that select the class.
            num_examples: int, how many examples are to be certified.
            batch_size: int, noisy copies in one forward pass, which is timed
                for about two seconds.
            serialized: as in `certify`.

        Returns:
            `ks.Plan`, which prints as sentences.

        Raises:
            ValueError: for arguments out of range, noise without a radius
                formula, or a base model without a known input shape.
        """
        return certify.plan(
            n,
            alpha,
            self.noise,
            n0=n0,
            num_examples=num_examples,
            model=self,
            batch_size=batch_size,
            serialized=serialized,
        )

    def export(
        self,
        filepath,
        format="tf_saved_model",
        verbose=None,
        input_signature=None,
        check_independence=True,
    ):
        """Exports the smoothed classifier as a TensorFlow SavedModel.

        It has four signatures, whose inputs `x` are float32 `(batch, ...)`:
        "predict", from x to the "shares" of the votes; "classify", from x,
        `seeds`, `n` and `batch_size` to the "counts" of the votes and
        "nan_draws"; "certify", which takes `selection_seeds` and `n0` besides
        and returns the counts of the "selection" too; and "settings", from
        nothing to a JSON text of everything that certificates depend on.
        Loading and calling them takes TensorFlow only.

        What votes prove is computed in float64 outside of the graph, by a
        package that is written beside it and needs NumPy and SciPy: with
        `<filepath>/assets.extra` on the path of Python, it is `from
        certificates import SmoothedClassifier`. With the same seed its
        certificates are those of `certify`.

        Trust the folder as you trust a program. `SmoothedClassifier` takes the
        settings from the graph and refuses weights whose SHA-256 is not in it,
        so files of two exports do not mix. Whoever can rewrite the graph or
        the package can make it say anything.

        Seeds are inputs, since a seed inside the file could be known to who
        chooses x. `SmoothedClassifier` makes fresh ones at every call; who
        calls a signature without it sends two random integers in [0, 2^31)
        for each seed, from an operating system's source, and never lets the
        sender of x choose them. Counting up does not do: seeds such as (1, 5)
        and (1, 6) share a part of their draws, and are refused. Those of
        "predict" are drawn in the graph, from a source that is not made to
        withstand an attacker.

        Args:
            filepath: path of a folder that is empty or not there yet.
            format: "tf_saved_model". The others of Keras would hold one noisy
                pass, and no votes.
            verbose: bool, whether to print the signatures; None for True.
            input_signature: `keras.InputSpec` or the like, of `(batch, ...)`,
                for a base model that leaves sizes of its input open; or None.
            check_independence: bool, as in `certify`, on noise around zero.

        Raises:
            ValueError: for another format, noise without a radius formula, or
                a base model that is not built, mixes the examples of a batch,
                or draws at inference, since its draws would be the same
                wherever it is loaded.
            FileExistsError: if there is something in the folder.
        """
        if format != "tf_saved_model":
            raise ValueError(
                'Expected format="tf_saved_model", whose graph can count '
                "votes: in another, the smoothed classifier would be one noisy "
                f"pass of its base model. Received: format={format!r}. "
                "`base_model.export` knows the others."
            )
        shape = self._example_shape()
        if input_signature is not None:
            (spec,) = keras.tree.flatten(input_signature)
            shape = tuple(spec.shape)[1:]
        export_model(
            self,
            self._sampler(),
            filepath,
            shape=shape,
            check_independence=check_independence,
            verbose=verbose is None or verbose,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "voting": self.voting,
        }

    def _check_answer(self, shape):
        num_classes(self.classifier, shape)

    def _answers_by(self):
        return self.voting, *super()._answers_by()

    def _is_binary(self):
        shape = self._example_shape()
        return shape is not None and is_binary(self.answer_model, shape)

    def _two_classes(self):
        if self.voting == "soft" and self.threshold != 0.5:
            raise ValueError(
                "Expected threshold=0.5 for soft voting, which averages "
                f"probabilities. Received: threshold={self.threshold}"
            )
        return super()._two_classes()

    def _labels(self):
        shape = self._example_shape()
        if shape is None:
            return ClassLabels()
        if self._is_binary():
            return ClassLabels(classes=2)
        return ClassLabels(classes=num_classes(self.answer_model, shape))

    def _sampler(self, serialized=None):
        """The sampler of a way to find votes.

        Its graph reads weights anew, which are variables; but what serialized
        smoothing proves of them is held fast as well.
        """
        if serialized is None:
            kind, settings, of_model, find = None, None, structure, VoteSampler
        else:
            checks.instance(
                "serialized", serialized, Form, "ks.serialized.Exact()"
            )
            if self.answer_model is not self.base_model:
                raise ValueError(
                    "Expected serialized=None for a base model with several "
                    "inputs or outputs: it takes apart a graph from one to "
                    "one, such as keras.Model(base_model.input, "
                    "base_model.output[name]) has. Received: "
                    f"serialized={serialized}"
                )
            self._check_noise_on_all(
                serialized=(serialized, "its proofs are about noise on all")
            )
            kind, settings = type(serialized), dict(vars(serialized))
            of_model, find = fingerprint, serialized.sampler
        return self._keep(
            kind,
            settings,
            of_model,
            lambda: find(self.classifier, self.noise, self.voting, self.group),
        )

    def _searcher(self, sigma):
        """What finds the noise of each example, or None."""
        if sigma is None:
            return None
        checks.instance(
            "sigma", sigma, SigmaSearch, "ks.DataDependentSigma(0.1, 1.0)"
        )
        if not isinstance(sigma, DataDependentSigma):
            self._check_noise_on_all(
                sigma=(sigma, "DataDependentSigma alone knows what is fixed")
            )
        kind, settings = type(sigma), sigma.get_config()
        return self._keep(
            kind,
            settings,
            structure,
            lambda: Searcher(sigma, self._sampler()),
        )

    def _memory(self, memory):
        if memory is not None:
            checks.instance(
                "memory",
                memory,
                CertificationMemory,
                "CertificationMemory(path)",
            )
            self._check_noise_on_all(
                memory=(memory, "a promise is of a ball in which all move")
            )
        return memory
