import contextlib
import os
import zlib

from keras_smoothing import private_files
from keras_smoothing.memory.kept import Head

try:
    import fcntl
except ImportError:  # On Windows, where it may fall back by one transaction.
    fcntl = None


class Witness:
    """A file beside a memory that records how much the memory must hold.

    SQLite silently drops the end of a damaged write-ahead log, and an older
    copy, or one of the main file alone, looks intact. This file is written
    after each commit and before anything is returned, and its numbers never
    decrease. So a memory that holds less than the file says has lost something.

    Args:
        path: str, the path of the file.
    """

    def __init__(self, path):
        self.path = path

    def read(self):
        """Returns the recorded `Head`, or None if there is no file.

        An empty file counts as none: the disk may have been full when it was
        created.

        Raises:
            ValueError: if the file is damaged.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read()
                return self._parse(data) if data else None
        except FileNotFoundError:
            return None

    def write(self, head):
        """Records `head` and syncs the file, unless it already says more.

        Args:
            head: `Head`.
        """
        with contextlib.suppress(FileExistsError):
            private_files.create(self.path)
        with open(self.path, "r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # Released on close.
            data = file.read()
            said = self._parse(data) if data else Head()
            if data and said[:2] >= head[:2]:
                return
            text = f"{head.num_promises:020d} {head.num_queries:020d} "
            text += head.chain
            file.seek(0)
            # In place, with fixed length: writing one sector is all or nothing.
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
