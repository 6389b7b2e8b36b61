"""Files of which each is written whole or not at all, for its owner only.

In a folder with the set-group-ID bit (`chmod g+s`), which is how Unix says that
its files are a group's, the group may read and write them, too.
"""

import os
import pathlib
import secrets
import stat


def create(path):
    """Makes an empty file that is not there yet.

    Args:
        path: path of a file, in a folder that exists.

    Raises:
        FileExistsError: if there is one, or a link, even one that leads
            nowhere.
    """
    os.close(_open_new(path))
    sync_folder(path)


def replace(path, data):
    """Puts a file in the place of another, or of none; it is on disk then.

    Args:
        path: path of the file.
        data: bytes.
    """
    path = pathlib.Path(path)
    # A name that nobody can have put a link at.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(_open_new(temporary), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path)


def sync_folder(path):
    """Puts the name of a file on disk, which syncing the file does not."""
    if os.name == "nt":  # There folders cannot be opened.
        return
    folder = os.open(pathlib.Path(path).absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_new(path):
    folder = os.stat(pathlib.Path(path).absolute().parent)
    mode = 0o660 if folder.st_mode & stat.S_ISGID else 0o600
    # O_EXCL follows no link.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    if mode == 0o660 and os.name != "nt":
        os.chmod(path, mode)  # Whatever the umask.
    return file
