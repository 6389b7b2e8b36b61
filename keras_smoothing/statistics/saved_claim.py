import dataclasses

import keras


class SavedClaim:
    """A dataclass that Keras saves by its fields. Base class of claims."""

    def get_config(self):
        return {
            field.name: keras.saving.serialize_keras_object(
                getattr(self, field.name)
            )
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(v) for name, v in config.items()})
