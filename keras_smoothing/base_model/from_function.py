import threading

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.labels import ClassLabels


def from_function(function, num_classes, name, input_shape=None):
    """A base model that calls any function, of scikit-learn or of a service.

    It has no gradients and no weights. Once smoothed, it supports `predict`,
    `classify` and `certify`. Logs, memories, adaptive sampling and groups work
    as with a Keras model; `save` and `export` raise an error.

    The thread that calls `predict`, `classify` or `certify` also calls the
    function, one call at a time, outside TensorFlow's graphs. So the function
    may run another Keras model or a `tf.function`. It may keep state between
    the steps of a call, as the interpreters of TFLite and ONNX do. It may also
    use objects bound to a thread, such as `torch.no_grad()` or an SQLite
    connection. Its errors reach the caller unchanged. A worker of a cluster
    calls it on one thread of its own process, and so does the service.

    Args:
        function: maps a float32 array, shape `(batch, ...)`, to class numbers:
            integers of shape `(batch,)` or `(batch, 1)`, bool for two classes;
            or to scores or probabilities, shape `(batch, num_classes)`, the
            largest of which is that of the class. Floats of shape `(batch,)`
            raise an error, since they may be either. The answer to an input
            must depend on nothing but that input.
        num_classes: int >= 2.
        name: str, the name of the function in logs and memories. These cannot
            see its code, so another function needs another name.
        input_shape: tuple of ints, the shape of one example, or None for any.

    Returns:
        `keras.layers.Layer`, for `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described; or, when the function is
            called, if it returns something else.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    def nearest(x):
        return (x[:, 0] > 0).astype("int64")

    base = ks.from_function(nearest, num_classes=2, name="half-plane")
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.5))
    x = np.array([[1.0, 0.0], [-0.3, 2.0]], "float32")
    result = model.certify(x, n=1_000, seed=0, verbose=0)
    result.prediction  # [1, 0]
    ```
    """
    return FunctionModel(function, num_classes, name, input_shape)


def check_can_be_saved(model):
    """Raises ValueError if a model contains a function: it cannot be saved."""
    if isinstance(model, FunctionModel):
        model.save_assets(None)
    for layer in getattr(model, "layers", ()):
        check_can_be_saved(layer)


class FunctionModel(keras.layers.Layer):
    """The layer that `from_function` returns."""

    def __init__(self, function, num_classes, name, input_shape):
        super().__init__(trainable=False, dtype="float32", name="function")
        if not callable(function):
            raise ValueError(
                "Invalid value for argument `function`. Expected a function. "
                f"Received: function={function!r}"
            )
        if not isinstance(name, str) or not name:
            raise ValueError(
                "Invalid value for argument `name`. Expected a text by which "
                f"logs tell functions apart. Received: name={name!r}"
            )
        num_classes = checks.positive_int("num_classes", num_classes)
        if num_classes < 2:
            raise ValueError(
                "Invalid value for argument `num_classes`. Expected at least "
                f"2 classes. Received: num_classes={num_classes}"
            )
        self._function = function
        self._num_classes = num_classes
        self._function_name = name
        self._one_at_a_time = threading.RLock()
        if input_shape is not None:
            self.input_shape = (None, *input_shape)
            self.build(self.input_shape)

    def call(self, x, training=None):
        if training:
            raise ValueError(
                "Expected a Keras model, to be trained. Received: the function "
                f"{self._function_name!r}, which has no weights"
            )
        try:
            return backend.call_on_host(self._scores, x, self._num_classes)
        except Exception as error:
            # Otherwise Keras would replace the error by one of its own.
            error._keras_call_info_injected = True
            raise

    def __repr__(self):
        return f"<the function {self._function_name!r}>"

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._num_classes)

    def save_assets(self, dir_path):
        # Saving the whole model fails; saving only its weights works.
        raise ValueError(
            "Expected a model whose parts a file can hold. Received: one "
            f"around the function {self._function_name!r}. Save what the "
            "function needs, and make the model anew by `ks.from_function`."
        )

    def get_config(self):
        return {
            "function": self._function_name,
            "num_classes": self._num_classes,
        }

    def __reduce__(self):
        shape = getattr(self, "input_shape", None)
        return from_function, (
            self._function,
            self._num_classes,
            self._function_name,
            shape and shape[1:],
        )

    def _scores(self, x):
        """The class scores: float32 array, shape `(batch, classes)`."""
        with self._one_at_a_time:
            answers = self._function(x)
        answers = np.asarray(ops.convert_to_numpy(answers))
        shape = (len(x), self._num_classes)
        kind = answers.dtype.kind
        if answers.shape == shape and kind in "fiu":
            return answers.astype("float32")
        columns = shape[:1], (len(x), 1)
        if kind in "iub" and answers.shape in (*columns, shape):
            labels = ClassLabels(
                classes=self._num_classes, name=f"{self._function_name}(x)"
            ).read(answers, range(len(x)))
            return np.eye(self._num_classes, dtype="float32")[labels]
        advice = ""
        if kind == "f" and answers.shape in columns:
            advice = (
                ". If they are class numbers, return them as integers, such as "
                "y.astype('int64')"
            )
            if self._num_classes == 2:
                advice += (
                    "; if they are probabilities p of class 1, return "
                    "np.stack([1 - p, p], axis=-1) of p with shape (batch,), "
                    "and of logits z np.stack([0 * z, z], axis=-1)"
                )
        elif kind in "OSU":
            advice = (
                ". Return the number of each name, such as "
                "np.searchsorted(sorted_names, names)"
            )
        raise ValueError(
            f"Expected the function {self._function_name!r} to return class "
            f"numbers, integers of shape {columns[0]} or {columns[1]}, or "
            f"scores of shape {shape}. Received: shape {answers.shape} of "
            f"type {answers.dtype}{advice}"
        )
