import keras
from keras import ops

from keras_smoothing import backend


class EagerSteps(keras.Model):
    """A Keras model that evaluates and predicts eagerly if it calls Python.

    Base class. The steps of a subclass must end with `backend.refuse_python()`.
    """

    def make_train_function(self, force=False):
        backend.check_not_forked()  # The others check this at every step.
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force=True)
            self.test_function = backend.graph_or_eager(
                self.test_function, self._test_eagerly
            )
        return self.test_function

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            super().make_predict_function(force=True)
            self.predict_function = backend.graph_or_eager(
                self.predict_function, self._predict_eagerly
            )
        return self.predict_function

    # Keras's own eager steps run in a strategy's context, in which Python code
    # cannot call `predict` of another model.

    def _test_eagerly(self, iterator):
        logs = None
        for _, data in zip(
            range(self.steps_per_execution), iterator, strict=False
        ):
            logs = self.test_step(data)
        if logs is None:
            raise StopIteration
        return logs

    def _predict_eagerly(self, batches):
        outputs = [self.predict_step(data) for data in batches]
        return keras.tree.map_structure(
            lambda *parts: ops.concatenate(parts), *outputs
        )
