import contextlib
import os
import zlib

from keras_smoothing import private_files
from keras_smoothing.memory.kept import Head

try:
    import fcntl
except ImportError:  # On Windows. There it may go back by one transaction.
    fcntl = None


class Witness:
    """A file beside a memory that says how much the memory must hold.

    SQLite drops the end of a damaged write-ahead log without a word, and a
    copy of the main file alone, or an older one, looks whole. This file is
    written after each commit and before anything is returned, and it never goes
    back. So a memory that holds less than it says has lost something.

    Args:
        path: str, of the file.
    """

    def __init__(self, path):
        self.path = path

    def read(self):
        """The `Head` that it holds, or None where there is no file.

        One that is empty is none, as where the disk was full when it was made.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read()
                return self._parse(data) if data else None
        except FileNotFoundError:
            return None

    def write(self, head):
        """Lets it say `head`, unless it says more already; it is on disk then.

        Args:
            head: `Head`.
        """
        with contextlib.suppress(FileExistsError):
            private_files.create(self.path)
        with open(self.path, "r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # Until it is closed.
            data = file.read()
            said = self._parse(data) if data else Head()
            if data and said[:2] >= head[:2]:
                return
            text = f"{head.num_promises:020d} {head.num_queries:020d} "
            text += head.chain
            file.seek(0)
            # In place, of one length: a write of one sector is whole or not.
            file.write(f"{text} {zlib.crc32(text.encode()):08x}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, data):
        text, _, checksum = data.decode("ascii", "replace").rpartition(" ")
        if checksum != f"{zlib.crc32(text.encode()):08x}\n":
            raise ValueError(
                f"Expected {self.path} to say how many promises there are in "
                "the memory beside it. Received: a damaged file. Restore both "
                "from a backup."
            )
        promises, queries, chain = text.split()
        return Head(int(promises), int(queries), chain)
