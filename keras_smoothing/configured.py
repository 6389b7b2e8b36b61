class Configured:
    """What its settings say in full: saved by them, and printed as written.

    A subclass gives its arguments in `get_config`, each kept as an attribute of
    its own name.
    """

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        # Of an argument that is such an object itself, its own form rather than
        # that in the config.
        arguments = ", ".join(
            f"{k}={getattr(self, k, v)}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"
