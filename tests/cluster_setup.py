"""What the workers of a cluster run before anything else."""

import os
import sys


class _Watch:
    """Keeps what TensorFlow finds when it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
            os.environ["CUDA_VISIBLE_DEVICES_AT_IMPORT"] = seen


def watch():
    sys.meta_path.insert(0, _Watch())
