import functools


class Rebuilt:
    """Pickled as the arguments it was made of: what it compiled cannot be."""

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        made._arguments = args, kwargs
        return made

    def __reduce__(self):
        args, kwargs = self._arguments
        return functools.partial(type(self), **kwargs), args
