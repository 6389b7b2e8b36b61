"""The TensorFlow backend."""

import functools
import math
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_smoothing.backend.peak_bytes import peak_bytes_per_example
from keras_smoothing.certificates.saved_model import check_not_forked

VERSION = tf.__version__


class PythonInGraph(RuntimeError):
    """Raised if the graph being traced would call Python."""


def compile(function, inputs=None):
    """Compiles a function of tensors to a graph, unless it calls Python.

    It does not use XLA, which draws noise some thirty times slower on a CPU.

    Args:
        function: function of tensors and other values.
        inputs: list of pairs (shape, dtype), one for each tensor, with None for
            sizes that change: the function is then traced once. Or None to
            trace the function whenever necessary.
    """
    if inputs is None:
        return _compiled(function, reduce_retracing=True)
    signature = [tf.TensorSpec(shape, dtype) for shape, dtype in inputs]
    return _compiled(function, input_signature=signature)


class ModelGraph:
    """A model's forward pass at inference as a graph, unless it calls Python.

    It is traced once for each example shape and all batch sizes, even if it is
    called inside another graph.

    Args:
        model: Keras model.
    """

    def __init__(self, model):
        self._model = model
        self._graphs = {}
        self._peaks = {}

    def __call__(self, x):
        key = tuple(x.shape[1:]), x.dtype
        if key not in self._graphs:
            batch = tf.TensorSpec((None, *key[0]), key[1])
            self._graphs[key] = _compiled(
                functools.partial(self._traced, key), input_signature=[batch]
            )
        return self._graphs[key](x)

    def bytes_per_example(self, shape):
        """The peak memory of a pass for each example of a batch, in bytes.

        Args:
            shape: tuple of ints, the shape of an example.

        Returns:
            int; 0 if it is unknown, because the model calls Python.
        """
        key = tuple(shape), tf.float32
        if key not in self._peaks:
            # Trace without running, so that the model's state does not change.
            zeros = tf.zeros((1, *shape))
            trace = tf.function(lambda: self(zeros), autograph=False)
            try:
                trace.get_concrete_function()
            except PythonInGraph:
                self._peaks[key] = 0
        return self._peaks[key]

    def _traced(self, key, x):
        outputs = self._model(x, training=False)
        if not tf.executing_eagerly():
            self._peaks[key] = peak_bytes_per_example(outputs)
        return outputs


def _compiled(function, **options):
    def traced(*args):
        result = function(*args)
        refuse_python()
        return result

    # TensorFlow counts retracing by code object, which the graphs of all models
    # share. A `partial` has none and is counted by itself.
    graph = tf.function(functools.partial(traced), autograph=False, **options)
    return graph_or_eager(graph, function)


def graph_or_eager(graph, function):
    """A compiled function, or the plain one once a trace finds Python calls.

    In a graph, TensorFlow calls Python on its own threads, several at once, and
    deadlocks if the Python code runs a graph. Outside of graphs, only the
    calling thread runs it.

    Args:
        graph: the compiled function, whose traces end with `refuse_python`.
        function: the same function of tensors, not compiled.

    Returns:
        function with the arguments and results of both.

    Raises:
        RuntimeError: if called in a process in which TensorFlow does not work.
    """
    calls_python = False

    def call(*args):
        nonlocal calls_python
        check_not_forked()
        if not calls_python:
            try:
                return graph(*args)
            except PythonInGraph:
                calls_python = True
        if not tf.executing_eagerly():
            raise PythonInGraph(_NO_GRAPH)
        return function(*args)

    return call


_PYTHON = "PyFunc", "PyFuncStateless", "EagerPyFunc"
_NO_GRAPH = (
    "Expected a model that calls Python to run outside of graphs, which would "
    "call it on several threads at once. Received: a graph around it. A Keras "
    "model goes without after `compile(run_eagerly=True)`."
)


def refuse_python():
    """Raises `PythonInGraph` if the graph being traced calls Python so far."""
    if tf.executing_eagerly():
        return
    nodes = _nodes(tf.compat.v1.get_default_graph())
    if any(node.op in _PYTHON for node in nodes):
        raise PythonInGraph(_NO_GRAPH)


def _nodes(graph):
    """The operations of a graph and of the functions that it calls."""
    definition = graph.as_graph_def()
    yield from definition.node
    for inner in definition.library.function:
        yield from inner.node_def


def call_on_host(function, x, size):
    """Calls a function of arrays outside of graphs, on this thread.

    Args:
        function: function that maps an array, shape `(batch, ...)`, to a
            float32 array, shape `(batch, size)`.
        x: tensor, shape `(batch, ...)`.
        size: int.

    Returns:
        float32 tensor, shape `(batch, size)`.

    Raises:
        ValueError: if a gradient is requested: there is none.
    """

    if tf.executing_eagerly():
        result = tf.constant(function(x.numpy()))
    else:
        # So that `refuse_python` finds it.
        result = tf.numpy_function(_refuse, [x], tf.float32)
        result.set_shape((x.shape[0], size))

    def no_gradient(*upstream):
        raise ValueError(
            "Expected a model with gradients. Received: one that calls a "
            "function of arrays"
        )

    @tf.custom_gradient
    def attach(x):
        return tf.identity(result), no_gradient

    return attach(x)


def _refuse(x):
    raise PythonInGraph(_NO_GRAPH)


def map(function, rows):
    """`ops.map`, with exactly one call for each row outside of graphs.

    `ops.map` itself calls the function once more, to see what it returns.
    """
    if not tf.executing_eagerly():
        return ops.map(function, rows)
    results = [function(row) for row in rows]
    return keras.tree.map_structure(lambda *of: tf.stack(of), *results)


def prefers_xla():
    """Whether Keras may choose XLA for models that draw noise."""
    return bool(tf.config.list_logical_devices("GPU"))


def rounds_products():
    """Whether products of float32 matrices are rounded to fewer bits."""
    return bool(
        tf.config.list_logical_devices("GPU")
        and tf.config.experimental.tensor_float_32_execution_enabled()
    )


def input_gradient(function, x, has_aux=False):
    """Gradient of the sum of `function(x)` with respect to x.

    It is 0 if `function` ignores x. With `has_aux`, `function` returns a pair
    (value, aux), and the result is (gradient, aux).
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value, aux = function(x) if has_aux else (function(x), None)
    gradient = tape.gradient(value, x, unconnected_gradients="zero")
    return (gradient, aux) if has_aux else gradient


def drop_nonfinite_gradients(x):
    """`x`, with 0 in place of non-finite entries of its gradient."""

    @tf.custom_gradient
    def attach(x):
        def backward(upstream):
            return tf.where(tf.math.is_finite(upstream), upstream, 0)

        return tf.identity(x), backward

    return attach(x)


def minimize(model, function):
    """One step of the optimizer of a compiled model.

    Args:
        model: `keras.Model`.
        function: function without arguments that returns a pair: the loss, a
            scalar tensor, and any other value.

    Returns:
        that pair.
    """
    with tf.GradientTape() as tape:
        loss, aux = function()
        scaled_loss = model.optimizer.scale_loss(loss)
    weights = model.trainable_weights
    if weights:
        gradients = tape.gradient(scaled_loss, weights)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
    else:
        warnings.warn(
            "The model does not have any trainable weights.", stacklevel=2
        )
    return loss, aux


def require(condition, tensor, *message):
    """`tensor`, or an error at run time if the condition does not hold.

    XLA cannot raise, and continues.

    Args:
        condition: bool tensor, scalar.
        tensor: tensor.
        *message: strings and tensors.
    """
    holds = tf.debugging.Assert(condition, message)
    with tf.control_dependencies([holds]):
        return tf.identity(tensor)


def set_num_threads(number):
    """Sets the number of threads; call it before the first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(number)
    tf.config.threading.set_inter_op_parallelism_threads(number)


def fresh_words(count):
    """Integers in [0, 2^31) that differ at every call of a graph.

    They also differ in a graph that was saved and loaded. TensorFlow draws them
    from a generator of the process, seeded with 32 bits from the operating
    system: anybody who sees enough of them can predict the next.

    Returns:
        int64 tensor, shape `(count,)`.
    """
    words = tf.raw_ops.NonDeterministicInts(shape=[count], dtype=tf.int64)
    return words & 0x7FFFFFFF


def hidden_state(function, variables):
    """State of a graph other than variables, and draws with a stored seed.

    Args:
        function: function compiled with an input signature.
        variables: list of `keras.Variable`.

    Returns:
        list of str: names of variables and kinds of operations.
    """
    graph = function.get_concrete_function().graph
    known = {variable.value.ref() for variable in variables}
    names = {v.name for v in graph.variables if v.ref() not in known}
    # Random operations that take no seed as an input have this attribute.
    draws = {node.op for node in _nodes(graph) if "seed2" in node.attr}
    return sorted(names | draws)


def num_replicas():
    """The number of devices by which Keras divides a batch, and its loss."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def outside_of_graphs():
    """A context in which tensors have values, even while a graph is traced."""
    return tf.init_scope()


def is_eager():
    """Whether tensors have values here, outside of any graph."""
    return tf.executing_eagerly()


def is_ragged(x):
    """Whether something is a RaggedTensor."""
    return isinstance(x, tf.RaggedTensor)


def padded(x, value, steps=None):
    """A RaggedTensor as an array, with short rows padded at their end.

    Args:
        x: RaggedTensor, shape `(rows, None, ...)`.
        value: number to pad with, or None if rows must have equal lengths.
        steps: int, the smallest length of the result; or None.

    Returns:
        array, shape `(rows, steps, ...)`.

    Raises:
        ValueError: if rows differ in length and there is no `value`, or if an
            axis other than the second is ragged.
    """
    lengths = x.row_lengths().numpy()
    if value is None and len(set(lengths)) > 1:
        raise ValueError(
            "Expected rows of one length, or a base model that begins with "
            "keras.layers.Masking, which finds where a row ends. Received: a "
            f"RaggedTensor with rows of {lengths.min()} to {lengths.max()} "
            "steps"
        )
    dense = x.to_tensor(value).numpy()
    size = lengths.sum() * math.prod(dense.shape[2:])
    if int(tf.size(x.flat_values)) != size:
        raise ValueError(
            "Expected a RaggedTensor whose rows differ in the number of steps "
            f"alone. Received: shape {x.shape}, with steps of several sizes"
        )
    if value is None:
        return dense
    more = max(0, (steps or 0) - dense.shape[1])
    widths = [(0, 0), (0, more), *[(0, 0)] * (dense.ndim - 2)]
    return np.pad(dense, widths, constant_values=value)
