from keras_smoothing.answers.numbers_shape import numbers_shape


def boxes_shape(model, shape):
    """The shape of one answer of a detector: a fixed number of boxes.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        tuple, `(boxes, 4)`.

    Raises:
        ValueError: unless the model's output is `(batch, boxes, 4)`, of
            floating type.
    """
    answer = numbers_shape(model, shape)
    if len(answer) != 2 or answer[1] != 4:
        raise ValueError(
            "Expected a base model with output shape (batch, boxes, 4), as of "
            "ks.layers.SortedBoxes: edges x1, y1, x2, y2. Received: output "
            f"shape {(None, *answer)}"
        )
    return answer
