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

    The smoothed classifier predicts the class that the base model predicts
    most often when noise is added to its input. `fit` trains the base model
    under fresh noise at every step. `evaluate` and a plain call use one noisy
    pass, as in training. `predict`, `classify` and `certify` use the smoothed
    classifier: `predict` returns vote shares over `num_draws` draws, of shape
    `(batch, classes)`, or `(batch, 1)` (the share of class 1) for a binary
    base model.

    With `voting="soft"`, the smoothed classifier instead predicts the class
    with the largest mean probability, which is what attacks and training
    objectives see. The same radii hold: in `classify` and `certify`, each draw
    votes for a class sampled from the probabilities, so all statistics stay
    exact. `predict` returns the mean probabilities.

    The scale of the noise and the certified radii are in the units of the
    input given to this model. Normalization inside the base model comes after
    the noise and does not change these units.

    If the base model begins with `keras.layers.Masking`, padding gets no
    noise. Certificates then hold for the valid steps, among inputs with the
    same padding.

    Args:
        base_model: Keras model from an input `(batch, ...)` to logits or
            probabilities `(batch, classes)`, or `(batch, 1)` if it is binary.
            A functional model may have several inputs of known sizes, of which
            `noise` names the noisy one, or several outputs, of which `output`
            names one. Weights are shared, not copied.
            Without `noise`, a model that begins with always-on noise
            (`ks.add_input_noise`) is split after that layer, so that its noise
            is added only once.
        noise: `keras_smoothing.noise.Noise`; or a dict from the name of one
            input to its noise: certificates then hold while that input moves
            and all others stay fixed. None for the noise that `base_model`
            begins with.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        voting: "hard", or "soft" for a base model that returns probabilities.
        group: `keras_smoothing.groups.Group` or None. With a group, each draw
            applies one random element of it to the input, in training too. The
            smoothed classifier is then exactly invariant, and its certificates
            hold around every rearrangement of the input, at no cost in draws.
        from_logits: bool, whether a binary base model returns the logit of
            class 1 instead of its probability; None to infer it from the last
            activation.
        threshold: float in (0, 1): a binary base model votes for class 1 where
            its probability is larger than this.
        output: str, for a base model with several outputs, the one whose
            classes are smoothed: a key of its dict, or the name of a layer.
            `fit`, `evaluate` and a plain call still use all outputs.

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

    To smooth one of two inputs:

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
        """Vote shares, as `predict` returns them."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        shares = self.vote_shares(self._examples(x), self.seed_generator)
        # In the form of the base model.
        return shares[:, 1:] if self._is_binary() else shares

    def vote_shares(self, x, seed):
        """Shares of the votes over `num_draws` draws, computed in a graph.

        Args:
            x: tensor, shape `(batch, ...)`, of floating type.
            seed: `keras.random.SeedGenerator`.

        Returns:
            float32 tensor, shape `(batch, classes)`: with soft voting, mean
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

        With probability at least `1 - alpha` for each example, an answer other
        than `ks.ABSTAIN` is the class most probable under noise.

        Args:
            x: as in `certify`. Where float32 rounds it, as many votes are
                discounted as the noise around the two inputs may differ in.
                With a memory, a small ball that reaches the input has to be
                certified instead. For noise without a norm nothing is
                certified, and the answer is for the rounded input.
            x_key: as in `certify`.
            n: int, draws for each example.
            alpha: float in (0, 1), probability of a wrong answer.
            batch_size: int, noisy copies in one forward pass.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system.
            check_independence: bool, as in `certify`.
            serialized: as in `certify`.
            sigma: as in `certify`.
            memory: as in `certify`. An answer without a certificate is
                promised too, for that input alone. An earlier promise is
                reused whatever its own `alpha` was. With a `total_alpha`, each
                query is tested at its share of it, if that is smaller than
                `alpha`.

        Returns:
            int64 array, shape `(examples,)`. It is `ks.ABSTAIN` (-1) where the
            votes do not decide, or where the base model returned NaN, unless
            an earlier promise gives the class.

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
        `top_k`: is among its k most voted classes). The guarantee assumes
        real-valued noise. float32 draws come close to it, except for a base
        model built to exploit their low-order bits.

        Args:
            x: array or tensor, shape `(examples, ...)`, of floating type; or a
                `keras.utils.PyDataset` or `tf.data.Dataset` (batched or not) of
                x or (x, y), which is finite, keeps its order and may be larger
                than memory; or a `ray.data.Dataset`, whose columns are the
                entries of a dict, and which is read into the memory of its
                cluster. Each x may be a dict of arrays. For several inputs, x
                is a dict by their names, or a list in the order of the model's
                inputs.
                If the base model begins with `keras.layers.Masking`, a
                `tf.RaggedTensor` is padded with its mask value; otherwise all
                rows must have the same length.
                Numbers that float32 cannot represent are rounded for the
                draws, and the radius is reduced by the rounding distance.
            y: class labels, integers of shape `(examples,)` or `(examples, 1)`,
                or one-hot `(examples, classes)`. Whole floats and, for two
                classes, bools count as integers. None for no labels, or for a
                dataset, which yields its own.
            x_key: str or None, the entry of x in a dict; None for the names of
                the base model's inputs. Other entries are ignored.
            y_key: str or None, the entry of the labels in the same dict; None
                for no labels, or those of y or (x, y).
            n0: int, draws that select the class.
            n: int or None, further draws that estimate its probability: short
                for `FixedSampling(n)`. 100_000 unless `stopping` is given.
            stopping: `ks.AdaptiveSampling` or `ks.FixedSampling`, how many
                draws an example gets; or None.
            alpha: float in (0, 1), failure probability of each certificate.
            top_k: int. Above 1, the certificate says that a class stays among
                the `top_k` most voted: the label, or without labels the class
                most voted at x.
            family_wise: bool, whether `alpha` is the probability that any of
                the certificates fails, instead of each (Bonferroni).
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
                examples at a time (128 with adaptive sampling), as soon as
                they are certified. The same call resumes an interrupted run,
                with the same results as without the interruption. Once a log
                exists, its seed can be read, so examples chosen later belong
                in another log: with `seed=None`, more examples than the log
                was begun for are refused, if their number was known then.
            check_independence: bool, whether to test, on noisy copies of the
                first examples, that the base model's output for an input does
                not depend on the rest of the batch, since a certificate is
                about one input. It costs a few forward passes of full batches.
            serialized: `ks.serialized.Exact` or `Audited`, how to find the
                votes of a base model with a `DeepEquilibrium` layer in fewer
                steps; or None.
            sigma: `ks.DataDependentSigma` or `ks.ANCER`, how the noise of each
                example is chosen; or None for the noise of the model. A
                classifier that chooses its noise by the input is certified
                only with a `memory`; without one, a warning, the result and
                the log say so.
            memory: `ks.CertificationMemory`, the promises made; or None. An
                example inside a promised ball gets the answer promised there,
                without draws. Any other is certified, as far as promises of
                other classes allow, and promised from then on, in the order of
                the examples. Pass the same memory to `classify`. The failure
                probabilities of its answers add up: see
                `ks.CertificationMemory` for what holds for all of them
                together.
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
            OSError: if the memory cannot be reached, read or written.
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
        """Tells before a run what it can certify and what it costs.

        Like `ks.plan`, for this model and its noise.

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

        - "predict" maps x to the "shares" of the votes.
        - "classify" maps x, `seeds`, `n` and `batch_size` to the "counts" of
          the votes and "nan_draws".
        - "certify" also takes `selection_seeds` and `n0`, and also returns the
          counts of the "selection".
        - "settings" takes no input and returns a JSON text of everything that
          certificates depend on.

        Only TensorFlow is needed to load and call them.

        A package written beside the graph turns votes into certificates, in
        float64. It needs NumPy and SciPy: with `<filepath>/assets.extra` on
        the Python path, use `from certificates import SmoothedClassifier`.
        With the same seed, its certificates are those of `certify`.

        Trust the folder as you trust a program. `SmoothedClassifier` takes the
        settings from the graph and rejects weights whose SHA-256 is not in it,
        so files of two exports cannot be mixed. Anyone who can rewrite the
        graph or the package can make it say anything.

        Seeds are inputs, since a seed inside the file could be known to
        whoever chooses x. `SmoothedClassifier` makes fresh seeds at every
        call. If you call a signature without it, send two random integers in
        [0, 2^31) for each seed, from the operating system's source of
        randomness, and never let the sender of x choose them. Do not count up:
        seeds such as (1, 5) and (1, 6) share some of their draws, and are
        refused. The seeds of "predict" are drawn in the graph, from a source
        that is not designed to withstand an attacker.

        Args:
            filepath: path of a folder that is empty or does not exist yet.
            format: "tf_saved_model". Keras's other formats would export one
                noisy pass, without votes.
            verbose: bool, whether to print the signatures; None for True.
            input_signature: `keras.InputSpec` or the like, of `(batch, ...)`,
                for a base model with unknown input sizes; or None.
            check_independence: bool, as in `certify`, on noise around zero.

        Raises:
            ValueError: for another format, noise without a radius formula, or
                a base model that is not built, mixes the examples of a batch,
                or draws random numbers at inference, since those would be the
                same wherever it is loaded.
            FileExistsError: if the folder is not empty.
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
        """The sampler for plain or serialized smoothing.

        Its graph reads the current weights, which are variables; but what
        serialized smoothing proves about them is baked in, too.
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
        """The search for the noise of each example, or None."""
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
