import types

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.training.eager_steps import EagerSteps
from keras_smoothing.training.gaussian_augmentation import GaussianAugmentation
from keras_smoothing.training.indexed import split_index
from keras_smoothing.training.indexed import with_index
from keras_smoothing.training.objective import Objective
from keras_smoothing.utils import wide_dtype


class Trainer(EagerSteps):
    """A Keras model that trains for an `Objective`. Base class.

    Attributes:
        objective: `Objective` that `fit` trains for.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.objective = GaussianAugmentation()
        # In a namespace, where Keras does not track metrics and layers, since
        # they change with the objective.
        self._of_objective = types.SimpleNamespace(
            trackers=[], state=None, is_checked=False
        )

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        *,
        objective=None,
        **kwargs,
    ):
        """Configures the model for training.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: as in `keras.Model.compile`.
            loss_weights: as in `keras.Model.compile`.
            metrics: as in `keras.Model.compile`.
            weighted_metrics: as in `keras.Model.compile`.
            objective: `keras_smoothing.training.Objective` that `fit` trains
                for; None for `GaussianAugmentation`, the loss on one noisy
                copy. `evaluate` shows that loss for every objective. If this is
                the model's current objective, it keeps its state.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if `objective` is not as described.
        """
        if objective is None:
            objective = GaussianAugmentation()
        checks.instance("objective", objective, Objective, "Stability()")
        super().compile(
            optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs
        )
        if objective is not self.objective:
            self._of_objective.state = objective.make_state(self)
        self.objective = objective
        self._of_objective.trackers = [
            keras.metrics.Mean(name, dtype="float32")
            for name in (*objective.terms, *objective.measures)
        ]

    @property
    def objective_state(self):
        """The state that the objective keeps between steps, a layer; or None.

        Keras finds it here and saves it. It is not one of the weights.
        """
        return self._of_objective.state

    def get_compile_config(self):
        config = super().get_compile_config()
        if not config:
            return config
        objective = keras.saving.serialize_keras_object(self.objective)
        return {**config, "objective": objective}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        """Keras's metrics, and those of the objective."""
        return [*super().metrics, *self._of_objective.trackers]

    def fit(self, x=None, *args, **kwargs):
        if self.objective.num_examples is not None:
            x = with_index(x, self.objective.num_examples)
        return super().fit(x, *args, **kwargs)

    def make_train_function(self, force=False):
        if self.train_function is None:
            # A model not yet built is checked at the first step.
            self._of_objective.is_checked = self.built
            if self.built:
                self.objective.check(self)
        return super().make_train_function(force)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self._of_objective.is_checked:
            self._build_and_check(x)

        def objective():
            losses, outputs = self.objective(self, x, y, sample_weight)
            measures = {
                name: losses.pop(name) for name in self.objective.measures
            }
            return _sum(losses.values()), (losses, measures, outputs)

        loss, (losses, measures, outputs) = backend.minimize(self, objective)
        replicas = backend.num_replicas()
        losses = {**losses, "loss": loss}
        shown = {name: value * replicas for name, value in losses.items()}
        shown.update(measures)
        size = ops.shape(keras.tree.flatten(outputs)[0])[0]
        for metric in self.metrics:
            if metric.name in shown:
                metric.update_state(shown[metric.name], sample_weight=size)
        return self.compute_metrics(x, y, outputs, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logs = super().test_step((self._without_index(x), y, sample_weight))
        backend.refuse_python()
        not_tested = [metric.name for metric in self._of_objective.trackers]
        return {
            name: value
            for name, value in logs.items()
            if name not in not_tested
        }

    def evaluate(self, *args, **kwargs):
        # Keras 3.12 returns tensors if a step leaves metrics out.
        return keras.tree.map_structure(
            lambda value: float(value) if ops.is_tensor(value) else value,
            super().evaluate(*args, **kwargs),
        )

    def _build_and_check(self, x):
        """Builds the model for examples like x, if their shape is known."""
        x = self._without_index(x)
        shape = tuple(getattr(x, "shape", ()))[1:]
        try:
            with backend.outside_of_graphs():
                if shape and None not in shape:
                    one = ops.zeros((1, *shape), x.dtype)
                    self.base_model(one, training=False)
                    self.build((None, *shape))
                self.objective.check(self)
        except BaseException:
            self.train_function = None  # A half-traced function is useless.
            raise
        self._of_objective.is_checked = True

    def _without_index(self, x):
        """The examples, without the numbers that an objective may need."""
        if self.objective.num_examples is not None and isinstance(x, dict):
            x, _ = split_index(x)
        return x


def _sum(losses):
    """The sum of scalars whose dtypes may differ."""
    dtype = wide_dtype(*(loss.dtype for loss in losses))
    return sum(ops.cast(loss, dtype) for loss in losses)
