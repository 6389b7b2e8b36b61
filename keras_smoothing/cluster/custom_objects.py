import keras


class CustomObjects:
    """What is registered with Keras here, to be registered on a worker.

    A worker registers it when it unpickles it, before what was pickled behind
    it. Code in a module is imported there; that of a script comes along.

    Args:
        config: str, the configuration of a model: what it names is meant.
    """

    def __init__(self, config):
        registered = keras.saving.get_custom_objects()
        self._objects = {k: v for k, v in registered.items() if k in config}

    def __reduce__(self):
        return _registered, (self._objects,)


def _registered(objects):
    for name, thing in objects.items():
        package, is_registered, own_name = name.rpartition(">")
        if is_registered:
            # So that it is also saved, and compared, by this name.
            keras.saving.register_keras_serializable(package, own_name)(thing)
        else:
            keras.saving.get_custom_objects()[name] = thing
    return objects
