"""Writes and resumes certification logs, with their settings beside them."""

import contextlib
import dataclasses
import json
import os
import pathlib
import secrets

import keras

from keras_smoothing import private_files
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import checks
from keras_smoothing.logs import array_rows
from keras_smoothing.logs import vote_rows
from keras_smoothing.logs.log_format import COLUMN
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.log_format import Chain
from keras_smoothing.logs.log_format import read_settings
from keras_smoothing.logs.log_format import serialized
from keras_smoothing.logs.log_format import settings_digest
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.logs.log_format import unchained
from keras_smoothing.logs.log_format import versions
from keras_smoothing.results import result_of


def header(model, sampler, claim, settings, *, num_examples, seed):
    """Returns everything that certificates depend on, as the log stores it.

    Args:
        model: str, the fingerprint of the base model.
        sampler: `Sampler`.
        claim: `Claim`, or a claim of another type.
        settings: dict, JSON-serializable: further settings that they depend on.
        num_examples: int, or None if unknown.
        seed: int, or None for the log's seed, or a fresh one.

    Returns:
        dict.
    """
    return {
        "format": FORMAT,
        "model": model,
        **sampler.get_config(),
        **describe(claim),
        **settings,
        "num_examples": num_examples,
        "seed": None if seed is None else int(seed),
        "backend": keras.backend.backend(),
        "versions": versions(),
    }


def describe(claim):
    """Returns a claim as settings: its type and its attributes."""
    kind = keras.saving.get_registered_name(type(claim))
    return {"claim": kind, **serialized(claim)}


def to_claim(path, settings):
    """Returns the claim of a log with these settings.

    Raises:
        ValueError: if the settings are damaged in any way.
    """
    try:
        checks.seed(settings["seed"])
        if settings.get("num_examples") is not None:
            checks.positive_int("num_examples", settings["num_examples"])
        kind = Claim
        if "claim" in settings:  # Format 3 knew only one type.
            kind = keras.saving.get_registered_object(settings["claim"])
        names = [field.name for field in dataclasses.fields(kind)]
        new = set()
        if settings["format"] < 5:  # Noise was always fixed.
            new.add("deployable")
        if settings["format"] < 6:  # The classifier was not named.
            new |= {"classifier", "total_alpha"}
        names = [name for name in names if name not in new]
        claim = kind.from_config(
            {
                name: keras.saving.deserialize_keras_object(settings[name])
                for name in names
            }
        )
        rows_of(claim).check_settings(settings)
    # Keras and constructors raise errors of any type for damaged settings.
    except Exception as error:
        raise ValueError(
            f"Expected settings of a certification run. Received: "
            f"{sidecar_path(path)} ({type(error).__name__}: {error})"
        ) from error
    return claim


def rows_of(claim):
    """Returns the module that handles a claim's rows."""
    return vote_rows if isinstance(claim, Claim) else array_rows


try:
    import fcntl
except ImportError:  # On Windows, where two runs may pass the check at once.
    fcntl = None


class CertificationLog:
    """The records of one run, held in RAM and, given a path, in a log.

    An existing log is resumed; its last line is dropped if writing it was
    interrupted. Nothing is written before `begin` or the first `append`. Only
    the owner may access both files; in a folder with the set-group-ID bit, its
    group may, too.

    Args:
        path: path of the log, or None.
        settings: dict, JSON-serializable: everything that the certificates
            depend on. With a seed of None, the seed and the number of examples
            of a resumed log are taken, or a fresh seed from the operating
            system. Settings of a "memory" are taken from a resumed log, too.
        claim: `Claim` of the certificates.

    Attributes:
        records: list of `Record`, or of the claim's own record type.
        settings: dict, with the seed in use.
        resumed: the result of the records that the log had; or None.

    Raises:
        ValueError: if the folder is missing, or if the existing log belongs to
            another run, is not a log of this library, or is damaged.
    """

    def __init__(self, path, settings, claim):
        self._path = None if path is None else pathlib.Path(path)
        self._claim = claim
        self._rows = rows_of(claim)
        self._end = 0  # End of the last complete line.
        self._size = 0  # File size; a line after `_end` is incomplete.
        self._stored = None  # The settings beside the log, once written.
        self._chain = None
        self.records = []
        self.resumed = None
        self._results = []
        # A JSON round trip makes them comparable to stored settings.
        self.settings = json.loads(json.dumps(settings))
        if self._path is not None:
            self._open()
        if self.settings["seed"] is None:
            self.settings["seed"] = secrets.randbits(63)

    def begin(self):
        """Writes the settings of a new log, so that it can be resumed."""
        if self._path is not None and self._stored is None:
            with self._alone():
                pass

    @property
    def run(self):
        """A hash of the run's settings, or None if there is no log."""
        return self._stored and settings_digest(self._stored)

    def append(self, records):
        """Adds the next records of the run; on return they are on disk.

        Returns:
            The result of these records. It is computed only once, here.
        """
        first = len(self.records)
        result = result_of(self._claim).from_records(
            records, self._claim, self.settings["seed"], first=first
        )
        self.records.extend(records)
        self._results.append(result)
        if self._path is None:
            return result
        rows = self._rows.format_rows(first, records, result)
        with self._alone() as file:
            lines = []
            if not self._end:
                heading = self._rows.heading(records[0], result)
                lines.append(f"{heading}\t{COLUMN}")
                self._chain = Chain(self._stored, heading)
            lines.extend(f"{row}\t{self._chain.follow(row)}" for row in rows)
            data = ("\n".join(lines) + "\n").encode()
            file.seek(self._end)
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._end = self._size = self._end + len(data)
        return result

    def result(self):
        """Returns the certificates of all records."""
        return result_of(self._claim).joined(self._results)

    def _open(self):
        if not self._path.parent.is_dir() or self._path.is_dir():
            raise ValueError(
                "Expected argument `log` to be the path of a file in an "
                f"existing folder. Received: log={str(self._path)!r}"
            )
        if not self._path.exists():
            return
        stored, data = read_settings(self._path), self._path.read_bytes()
        if not data and (stored is None or stored["format"] != FORMAT):
            return
        if stored is None:
            raise ValueError(
                "Expected a log of this library to resume, with settings in "
                f"{sidecar_path(self._path)}. Received: {self._path}, without "
                "such a file. Choose another path."
            )
        if stored["format"] != FORMAT:
            raise ValueError(
                f"Expected a log in format {FORMAT} to resume. Received: "
                f"{self._path} in format {stored['format']}, of an earlier "
                "version. `read_log` still reads it. Choose another path."
            )
        to_claim(self._path, stored)  # Raises for damaged settings.
        if self.settings["seed"] is None:
            self.settings["seed"] = stored["seed"]
            self.settings["num_examples"] = stored.get("num_examples")
        if self.settings.get("memory") and stored.get("memory"):
            self.settings["memory"] = stored["memory"]
        self._check_same_run(stored)
        self._stored, self._size = stored, len(data)
        whole = data[: data.rfind(b"\n") + 1]
        self._end = len(whole)
        if whole:
            text, self._chain = unchained(self._path, whole.decode(), stored)
            self.records, result = self._rows.parse_records(
                self._path, text, stored, self._claim
            )
            if self.records:
                self.resumed = result
                self._results.append(result)

    def _check_same_run(self, stored):
        for name, ours, theirs in _differences(self.settings, stored):
            # A class may move to another module; its registered name stays.
            is_history = name.startswith("versions.") or name == "num_examples"
            if not is_history and not name.endswith(".module"):
                why = ""
                if name == "model":
                    why = " (weights or configuration differ)"
                raise ValueError(
                    f"The log {self._path} is of another run. Expected "
                    f"{name}={ours!r}. Received: {name}={theirs!r} in the "
                    f"log{why}. Choose another path."
                )

    @contextlib.contextmanager
    def _alone(self):
        """Opens the log, with its settings beside it, for exclusive writing."""
        with contextlib.suppress(FileExistsError):
            private_files.create(self._path)
        with open(self._path, "r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # Released on close.
            size = os.fstat(file.fileno()).st_size
            begun = None if self._stored is None else read_settings(self._path)
            if size != self._size or begun != self._stored:
                raise ValueError(
                    f"Expected the log {self._path} and its settings as this "
                    f"run left them. Received: {size} bytes instead of "
                    f"{self._size}, or other settings; another process writes "
                    "to it. Choose another path."
                )
            if self._stored is None:
                # Before the first line: a log without settings is rejected.
                text = json.dumps(self.settings, indent=2) + "\n"
                private_files.replace(sidecar_path(self._path), text.encode())
                self._stored = read_settings(self._path)
            yield file


def _differences(ours, theirs, prefix=""):
    """Yields (dotted name, ours, theirs) where nested settings differ."""
    for name in {**theirs, **ours}:
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            yield prefix + name, one, other
