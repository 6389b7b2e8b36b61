import concurrent.futures
import secrets

import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model.outputs import num_classes
from keras_smoothing.certificates import FixedSampling
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.examples import Examples
from keras_smoothing.certificates.examples import Source
from keras_smoothing.certificates.examples import largest_value
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.certify import remembered
from keras_smoothing.certify.plan import example_shape
from keras_smoothing.logs import fingerprint
from keras_smoothing.memory import CertificationMemory
from keras_smoothing.models.classifier import SmoothedModel
from keras_smoothing.sampling.noise_blocks import FixedSeed
from keras_smoothing.serving import schemas
from keras_smoothing.version import __version__


class Service:
    """A smoothed classifier that answers batches of examples, one at a time.

    The constructor compiles all endpoints and checks, on noise around zero,
    that the model treats the examples of a batch independently. Batches of
    other sizes are not compiled again.

    Each batch gets a fresh seed from the operating system, drawn after its
    examples are known, so that nobody can tailor an example to the draws.

    Args:
        model: `keras_smoothing.SmoothedModel` with a known input shape. Each
            shape would be compiled separately, so clients must not choose it.
        n0: int, draws that select a class.
        n: int, draws for an answer.
        alpha: float in (0, 1), failure probability of each answer.
        batch_size: int, noisy copies in one forward pass.
        sigma: `ks.DataDependentSigma` or `ks.ANCER`, how the noise of each
            example is chosen; or None.
        memory: `ks.CertificationMemory`, the promises made; or None.
        seed: None, which is required if anybody else can send requests; or an
            int, the seed of every batch, to repeat answers in a test. The
            command has no such option.

    Attributes:
        shape: tuple of ints, the shape of one example.
        limit: float, the largest magnitude of a value that is answered.
        window: int, how many examples share their draws.
        thread: `concurrent.futures.Executor` of the one thread on which the
            constructor tries the model and `create_app` runs it: a base model
            that calls Python may hold thread-local state.
        answers: dict from the kind of answer to a function that maps a float
            array, shape `(examples, ...)`, to a list with an answer for each
            example. There is no "predict" if a memory or the input affects
            answers, since vote shares do not take these into account.

    Raises:
        ValueError: as in `SmoothedModel.certify`, or if the model's input shape
            is not known.
        OSError: if the memory cannot be reached, read or written.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks
    from keras_smoothing import serving

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    service = serving.Service(model, n=1_000)
    x = service.check(np.random.rand(5, 4).tolist())
    print(service.answers["certify"](x)[0])
    ```
    """

    def __init__(
        self,
        model,
        *,
        n0=100,
        n=1_000,
        alpha=0.001,
        batch_size=1024,
        sigma=None,
        memory=None,
        seed=None,
    ):
        checks.instance(
            "model", model, SmoothedModel, "SmoothedModel(base, noise)"
        )
        if model.noise.size is not None:
            raise ValueError(
                "Expected a base model with one input, since a payload has "
                f"one. Received: noise={model.noise}"
            )
        self.shape = example_shape(model.base_model)
        self.window = min(FixedSampling(n).window, batch_size)
        self.answers = {"certify": self._certify, "classify": self._classify}
        if sigma is None and memory is None:
            self.answers["predict"] = self._predict
        self._model = model
        self._shares = backend.compile(_shares(model))
        self._n0 = n0
        self._settings = dict(
            n=n, alpha=alpha, batch_size=batch_size, sigma=sigma
        )
        self._memory = memory
        self._seed = seed
        self.limit = largest_value(model.noise, sigma)
        self._fingerprint = fingerprint(model.classifier)
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "model")
        self._distance = self.thread.submit(self._warm_up).result()

    def check(self, instances):
        """Checks examples and converts them to an array.

        Args:
            instances: nested lists of numbers, shape `(examples, ...)`.

        Returns:
            float64 array of that shape, with the numbers of the JSON, not
            rounded.

        Raises:
            ValueError: if `SmoothedModel.certify` would not accept an example.
        """
        x = np.array(instances, np.float64)
        Examples(  # Raises for invalid examples.
            Source(iter([(x, None)]), num_batches=1),
            shape=self.shape,
            window=len(x),
            limit=self.limit,
            norm=self._model.noise.norm,
            where=self._model.noise.where,
        )
        return x

    def try_memory(self):
        """Checks that the memory can be read and written, from any thread.

        Raises:
            OSError: if the memory is locked, or cannot be reached, read or
                written.
            ValueError: if the memory is damaged.
        """
        if self._memory is not None:
            nothing = np.zeros((0, *self.shape), "float32")
            self._memory.promise(nothing, [], [], scale=1.0, alpha=0.5)

    @property
    def has_memory(self):
        """bool, whether answers are kept and depend on earlier ones."""
        return self._memory is not None

    def describe(self):
        """A `schemas.Description` of the model and its settings."""
        sigma = self._settings["sigma"]
        return schemas.Description(
            **{**self._settings, "sigma": sigma and str(sigma)},
            noise=str(self._model.noise),
            norm=self._distance,
            voting=self._model.voting,
            num_draws=self._model.num_draws,
            shape=self.shape,
            num_classes=num_classes(self._model.classifier, self.shape),
            fingerprint=self._fingerprint,
            n0=self._n0,
            memory=self.has_memory,
            total_alpha=getattr(self._memory, "total_alpha", None),
            deployable=self._deployable,
            version=__version__,
        )

    @property
    def _deployable(self):
        return self._settings["sigma"] is None or self.has_memory

    def _warm_up(self):
        """Tries and compiles the model; returns the distance of its radii."""
        kept = self._memory
        if kept is not None:
            remembered.bind(
                kept, self._fingerprint, self._model._sampler(), self.shape
            )
            # Promises from compiling must not enter the memory.
            self._memory = CertificationMemory()
        # The second size makes TensorFlow trace a graph for all sizes.
        for size in (1, 2):
            x = np.zeros((size, *self.shape), "float32")
            result = self._result(x, check_independence=size == 1)
            for answer in self.answers.values():
                answer(x)
        self._memory = kept
        return result.distance

    def _result(self, x, check_independence=False):
        return self._model.certify(
            x,
            n0=self._n0,
            seed=self._seed,
            memory=self._memory,
            check_independence=check_independence,
            verbose=0,
            **self._settings,
        )

    def _certify(self, x):
        result = self._result(x)
        return [
            schemas.Certificate(
                **self._classification(
                    int(result.prediction[i]), result.memory_alpha
                ),
                radius=float(result.radius[i]),
                norm=result.distance,
                p_lower=float(result.p_lower[i]),
                num_samples=int(result.num_samples[i]),
            )
            for i in range(len(x))
        ]

    def _classify(self, x):
        labels = self._model.classify(
            x,
            seed=self._seed,
            memory=self._memory,
            check_independence=False,
            **self._settings,
        )
        spent = None
        if self._memory is not None:
            spent = self._memory.alpha_spent
        return [
            schemas.Classification(**self._classification(int(label), spent))
            for label in labels
        ]

    def _classification(self, label, spent):
        abstained = label == ABSTAIN
        return dict(
            class_=None if abstained else label,
            abstained=abstained,
            alpha=self._settings["alpha"],
            deployable=self._deployable,
            memory_alpha=spent,
        )

    def _predict(self, x):
        # The model's own seed may be known, and its stream is predictable.
        seed = secrets.randbits(63) if self._seed is None else self._seed
        words = np.random.SeedSequence(seed).generate_state(2) & 0x7FFFFFFF
        shares = self._shares(
            ops.convert_to_tensor(x, "float32"),
            ops.convert_to_tensor(words.astype("int64")),
        )
        return ops.convert_to_numpy(shares).tolist()


def _shares(model):
    def shares(x, words):
        return model.vote_shares(x, FixedSeed(words))

    return shares
