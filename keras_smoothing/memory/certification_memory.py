import contextlib
import hashlib
import math
import os
import threading

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.memory import arguments
from keras_smoothing.memory import geometry
from keras_smoothing.memory import kept
from keras_smoothing.memory.ball_index import BallIndex
from keras_smoothing.memory.kept import START
from keras_smoothing.memory.kept import Budget
from keras_smoothing.memory.kept import Head
from keras_smoothing.memory.kept import Identity
from keras_smoothing.memory.postgresql_store import PostgresqlStore
from keras_smoothing.memory.rows import from_rows
from keras_smoothing.memory.rows import to_row
from keras_smoothing.memory.sqlite_store import SqliteStore
from keras_smoothing.memory.store import RamStore


class CertificationMemory:
    """Stores certified balls ("promises") that later answers must respect.

    A classifier that adapts its noise to the input has no certificate by
    itself: at another point of the ball it may choose other noise. The memory
    makes it keep to its earlier answers instead. Every query, for a class or
    for a certificate, asks the memory first:

    - If the point lies within the radius of an earlier point, the answer is
      that point's class, with the radius that remains (the largest, if several
      balls contain the point).
    - Otherwise the certificate found there is clipped, so that its ball touches
      no ball of another class. From then on it is promised.

    So no two balls of different classes ever have a point in common, and every
    point of every ball is answered with the ball's class. This is decided
    exactly, in real arithmetic, also for points on a border. A radius of 0
    promises the point itself; a later certificate of that class may promise
    more. An abstention promises nothing and contradicts nothing.

    Under a group, a promise covers all rearrangements of a point: lookup and
    clipping consider all of them.

    The promises depend on the order of the queries, and errors accumulate. An
    answer based on noise samples is wrong with probability at most its `alpha`
    (wrong: another class is the most probable under the noise). Answers are
    kept, so a user who queries points that are hard to decide often enough
    gets a wrong one. Therefore every query that samples noise is counted before
    its answer is returned, even if it abstains: `num_queries` is the number of
    these queries, `alpha_spent` the sum of their alphas. The examples of one
    call share their noise samples; those that are answered from the call's own
    promises count, too. Then, by the union bound:

    - For a sum s fixed beforehand: with probability at least 1 - s, all answers
      that were given while `alpha_spent` was at most s are right.
    - With `total_alpha`: with probability at least 1 - total_alpha, all answers
      that the memory will ever give are right. The k-th query uses `alpha =
      min(alpha, total_alpha * 6 / (pi k)^2)`; these sum to at most
      `total_alpha`.

    Both hold even if queries depend on earlier answers, as long as each call
    has a fresh seed (the default) and nobody chooses queries by the answers of
    a call that is still running. Later shares are smaller, so the same number
    of samples certifies smaller radii. Counted queries stay counted: a killed
    call that is resumed from its log continues with the next share, and counts
    the examples that were not counted yet.

    With a path, promises are stored in an SQLite file that several processes
    of a machine may share. Lookup and insertion are one transaction, and a
    returned promise survives a kill and a power failure. With a
    `postgresql://` address, promises are stored on a server that many machines
    may share. Each process also holds the points in RAM, at four bytes per
    coordinate.

    Args:
        path: None for promises in RAM; a path; or the address of a PostgreSQL
            database, for which `pip install keras_smoothing[memory-server]`.
        total_alpha: float in (0, 1), the probability that any answer is ever
            wrong, which all queries share; or None, so that each query uses
            the alpha that it asks for. It is stored with the promises: None
            takes the value of an existing memory.

    Attributes:
        identity: the classifier that the promises are about, a tuple of
            `model`, `norm`, `shape`, a hash of the `symmetries`, `voting` and
            `serialized`; None before `bind`.
        total_alpha: float or None.
        num_queries: int, the number of queries counted, by all processes.
        alpha_spent: float, the sum of their alphas.
        head: `Head`, how much the memory holds: `num_promises`, `num_queries`,
            and a hash of all promises, the `chain`. See `check_holds`.

    Raises:
        ValueError: if the folder is missing, or if the file or database is
            not a memory, is damaged, or has another `total_alpha`.
        OSError: if the memory cannot be reached, read or written:
            `PermissionError`, `TimeoutError` if another process keeps it
            locked, `ConnectionError`, or another with the reason. All methods
            raise it; a promise that was not returned was not made.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    with ks.CertificationMemory("promises.sqlite") as memory:
        memory.bind(model="a fingerprint", norm="l2", shape=(2,))
        x = np.array([[0, 0], [0.25, 0], [1, 0]], "float32")
        memory.look_up(x)  # [None, None, None]: certify them, and then
        for promise in memory.promise(
            x, [7, 3, 3], [0.5, 0.4, 0.75], scale=1.0, alpha=0.001
        ):
            print(promise.prediction, promise.radius)
        # 7 0.5, and 7 0.25 inside that ball, and 3 0.49... up to its border
    ```

    Reference:
    - [Alfarra, Bibi, Torr and Ghanem, 2022](https://arxiv.org/abs/2012.04351)
    """

    def __init__(self, path=None, total_alpha=None):
        if total_alpha is not None:
            total_alpha = checks.probability("total_alpha", total_alpha)
        self._store = _open(path)
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._index = None
        self._symmetries = None
        self._inside = False  # Whether a transaction is open.
        self.identity = None
        self.total_alpha = total_alpha
        try:
            identity = self._store.identity()
            if identity is not None:
                if total_alpha is None:
                    self.total_alpha = self._store.budget().total_alpha
                self._adopt(identity)
        except BaseException:
            self._store.close()
            raise

    def bind(
        self,
        model,
        norm,
        shape,
        symmetries=None,
        voting="hard",
        serialized="",
    ):
        """Sets the classifier that makes the promises, or checks it.

        Args:
            model: str, the fingerprint of the base model.
            norm: `"l1"` or `"l2"`, the norm of its certificates.
            shape: tuple of ints, the shape of one example.
            symmetries: int array, shape `(order, coordinates)`: a group of
                rearrangements of an example's coordinates, as indices, under
                which the classifier is invariant; or None.
            voting: "hard" or "soft".
            serialized: str, the form of serialized smoothing if its votes
                differ from the base model's: "Exact" (votes of the fixed
                point); else empty.

        Raises:
            ValueError: if the memory belongs to another model, norm, shape,
                group, voting or form.
        """
        if not isinstance(model, str):
            raise ValueError(
                "Invalid value for argument `model`. Expected the fingerprint "
                f"of a model, a str. Received: model={model!r}"
            )
        checks.one_of("norm", norm, ("l1", "l2"))
        checks.one_of("voting", voting, ("hard", "soft"))
        checks.one_of("serialized", serialized, ("", "Exact"))
        shape = tuple(checks.positive_int("shape", size) for size in shape)
        symmetries = arguments.to_symmetries(symmetries, math.prod(shape))
        digest = ""
        if symmetries is not None:
            digest = hashlib.sha256(symmetries.tobytes()).hexdigest()
        wanted = Identity(model, norm, shape, digest, voting, serialized)
        with self._lock:
            self._check_usable()
            if self.identity is None:
                self._store.create(wanted, self.total_alpha)
                self._adopt(self._store.identity())
            for name, ours, theirs in zip(
                Identity._fields, wanted, self.identity, strict=True
            ):
                if ours != theirs:
                    raise ValueError(
                        f"The memory {self._store.name} is of another "
                        f"classifier. Expected {name}={ours!r}. Received: "
                        f"{name}={theirs!r} in the memory. Choose another path."
                    )
            self._symmetries = symmetries

    @property
    def head(self):
        with self._lock:
            self._check_usable()
            return Head() if self.identity is None else self._store.head()

    @property
    def num_queries(self):
        return self._budget().num_queries

    @property
    def alpha_spent(self):
        return self._budget().alpha_spent

    def check_holds(self, head):
        """Raises if the memory has lost promises since an earlier time.

        Args:
            head: `Head` of this memory at the earlier time.

        Raises:
            ValueError: if the memory holds fewer promises or queries than
                `head`, or other promises.
        """
        with self._lock:
            self._check_bound()
            ours = self._refresh()
            if (
                ours.num_promises < head.num_promises
                or ours.num_queries < head.num_queries
                or self._store.chain_at(head.num_promises) != head.chain
            ):
                raise ValueError(
                    f"The memory {self._store.name} is behind, or another one. "
                    f"Expected the {head.num_promises} promises and "
                    f"{head.num_queries} queries that it had earlier. "
                    f"Received: {ours.num_promises} promises and "
                    f"{ours.num_queries} queries, or others. What it has lost "
                    "may be contradicted."
                )

    def spend(self, count, alpha):
        """Counts queries that will sample noise, before they are answered.

        Args:
            count: int >= 0, the number of queries.
            alpha: float in (0, 1), the alpha that they ask for.

        Returns:
            float64 array, shape `(count,)`: the alpha to answer each query at.
            It counts as spent from now on, whatever comes of the query.

        Raises:
            ValueError: if an argument is not as described, or nothing is bound.
        """
        count = checks.nonnegative_int("count", count)
        alpha = checks.probability("alpha", alpha)
        with self._lock:
            self._check_bound()
            alphas = np.full(count, alpha)
            if not count:
                return alphas
            with self.transaction():
                spent = self._store.budget()
                if self.total_alpha is not None:
                    k = spent.num_queries + 1.0 + np.arange(count)
                    share = self.total_alpha * 6 / (np.pi * k) ** 2
                    alphas = np.minimum(alphas, share)
                self._store.spend(
                    spent._replace(
                        num_queries=spent.num_queries + count,
                        alpha_spent=spent.alpha_spent + float(alphas.sum()),
                    )
                )
            return alphas

    def look_up(self, x, rounding=0.0, first=None):
        """Looks up what has been promised about points.

        Args:
            x: float32 array, shape `(examples, ...)`, in input units.
            rounding: float or float array, shape `(examples,)`: how far the
                queried points may be from `x`, in the norm of the memory, for
                instance because they were rounded to float32.
            first: int, looks only at the `first` oldest promises; None looks
                at all.

        Returns:
            list of `Promise`, with the radius that remains around each point;
            None for points that no ball contains. A point that may lie in a
            ball or just outside it gets the class of the ball and radius 0. If
            balls of two classes may contain it, it gets an abstention.

        Raises:
            ValueError: if `x` is not such an array, or nothing is bound.
        """
        with self._lock:
            self._check_bound()
            points = arguments.to_points(x, self.identity.shape)
            rounding = arguments.to_roundings(rounding, len(x))
            self._refresh()
            found = [
                self._find(*pair, first)
                for pair in zip(points, rounding, strict=True)
            ]
            return [None if one is None else self._shaped(one) for one in found]

    def promise(
        self,
        x,
        prediction,
        radius,
        scale,
        alpha,
        stddev=1.0,
        noise="",
        rounding=0.0,
    ):
        """Promises certificates, as far as earlier promises allow.

        Points are decided in order, each respecting those before it. They are
        looked up once more, since another process may have made promises
        meanwhile. The whole call is one transaction.

        Args:
            x: float32 array, shape `(examples, ...)`, in input units.
            prediction: int array, shape `(examples,)`; `ks.ABSTAIN` (-1) for
                none.
            radius: float array, shape `(examples,)`, in input units and the
                norm of the memory; 0 for a class without a certificate.
            scale: float or float array, shape `(examples,)`: the factor that
                the noise was multiplied by. With one scale per coordinate (a
                float32 array, shape `(examples, ...)`), the ellipsoid with
                semi-axes `radius * scale / min(scale)` is promised. Clipping
                such ellipsoids loses some volume, since it uses the triangle
                inequality in either ellipsoid's norm.
            alpha: float or float array, shape `(examples,)`: the probability
                that a certificate is wrong.
            stddev: float > 0, the standard deviation of the noise before it
                was scaled. Noises of several sigmas may share a memory.
            noise: str, a description of that noise.
            rounding: As in `look_up`. Balls are centered at `x`; the returned
                promises are centered at the queried points.

        Returns:
            list of `Promise`, the promises to answer with. An abstention
            outside all balls stays an abstention. A point that no ball is
            certain to contain gets one, too.

        Raises:
            ValueError: if an argument is not as described, or nothing is bound.
        """
        with self._lock:
            self._check_bound()
            points = arguments.to_points(x, self.identity.shape)
            wanted = arguments.to_promises(
                x, prediction, radius, scale, alpha, stddev, noise
            )
            rounding = arguments.to_roundings(rounding, len(x))
            if self.identity.symmetries and np.ndim(scale) > 1:
                raise ValueError(
                    "Expected one scale for each example under symmetries, "
                    "which move coordinates. Received: scales of shape "
                    f"{np.shape(scale)}"
                )
            with self.transaction():
                known, rows = len(self._index), []
                answers = [
                    self._decide(*each)
                    for each in zip(points, wanted, rounding, strict=True)
                ]
                for i in range(known, len(self._index)):
                    rows.append(to_row(self._chain, i + 1, *self._index[i]))
                    self._chain = rows[-1][-1]
                self._store.insert(rows)
            return [self._shaped(answer) for answer in answers]

    @contextlib.contextmanager
    def transaction(self):
        """Returns a context that keeps all of its counts and promises, or none.

        Other processes wait until it ends. An exception rolls it back.
        """
        with self._lock:
            self._check_bound()
            if self._inside:
                yield
                return
            self._refresh()  # Most reading happens before others must wait.
            self._inside, known = True, (len(self._index), self._chain)
            try:
                with self._store.exclusive():
                    self._refresh()
                    known = len(self._index), self._chain
                    yield
            except BaseException:
                # Rows that were committed nevertheless are read again later.
                length, self._chain = known
                self._index.truncate(length)
                raise
            finally:
                self._inside = False

    def told(self, queries):
        """Returns the answers that a logged run got before its interruption.

        Args:
            queries: list of str, a hash of each example and its place.

        Returns:
            list of `Answer`; None for examples that the run did not reach.
        """
        with self._lock:
            self._check_bound()
            shape = self.identity.shape
            found = dict(
                kept.from_row(row, shape)
                for row in self._store.answers(queries)
            )
            return [found.get(query) for query in queries]

    def keep(self, answers):
        """Stores the answers that a logged run gets, for `told`.

        Args:
            answers: dict from queries, as in `told`, to `Answer`.
        """
        with self.transaction():
            self._store.keep_answers(
                [kept.to_row(*each) for each in answers.items()]
            )

    def backup(self, path):
        """Copies a memory in a file to a new file, while others may write.

        A copy made by other means may lack the latest promises, and is then
        rejected. Never continue with an older copy if promises were returned
        since: new answers may contradict them.

        Args:
            path: path of the copy, in an existing folder. Like every memory,
                it gets a file `<path>.head` beside it: the two belong
                together.

        Raises:
            ValueError: if the memory is not in an SQLite file, or is damaged.
            FileExistsError: if there is a file at the path.
        """
        with self._lock:
            self._check_bound()
            self._refresh()
            self._store.backup(os.fspath(path))
        with CertificationMemory(path) as copy:
            len(copy)  # Reads and checks the whole copy.

    def close(self):
        """Closes the file or the connection. A second call does nothing."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = self._index = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __len__(self):
        with self._lock:
            self._check_usable()
            if self.identity is None:
                return 0
            self._refresh()
            return len(self._index)

    def __iter__(self):
        """Yields each point, shape `(...)`, and its `Promise`."""
        for i in range(len(self)):
            with self._lock:
                self._check_usable()
                point, promise = self._index[i]
            yield (
                point.reshape(self.identity.shape).copy(),
                self._shaped(promise),
            )

    def _adopt(self, identity):
        kept = self._store.budget().total_alpha
        if kept != self.total_alpha:
            raise ValueError(
                f"The memory {self._store.name} shares out another total. "
                f"Expected total_alpha={self.total_alpha}. Received: "
                f"total_alpha={kept} in the memory. Choose another path."
            )
        self.identity = identity
        self._index = BallIndex(math.prod(identity.shape), identity.norm)
        self._chain = START

    def _budget(self):
        with self._lock:
            self._check_usable()
            return Budget() if self.identity is None else self._store.budget()

    def _shaped(self, promise):
        """Reshapes the scales of an index's promise to an example's shape."""
        if np.ndim(promise.scale) == 0:
            return promise
        scale = promise.scale.reshape(self.identity.shape).copy()
        return promise._replace(scale=scale)

    def _decide(self, x, wanted, rounding):
        """Answers one point, and adds a new promise to the index."""
        found = self._find(x, rounding)
        # Abstain on a point that no ball is certain to contain: another class
        # may be promised for it later.
        kept = found
        if rounding and (found is None or not found.radius):
            kept = wanted._replace(prediction=-1, radius=0.0)
        if found is not None and not (
            found.radius == 0 < wanted.radius
            and found.prediction == wanted.prediction
        ):
            return kept
        if wanted.prediction < 0:  # An abstention.
            return wanted
        new = wanted
        for image in self._images(x):
            new = self._index.clip(image, new)
        if kept is not None and (not new.radius or new.radius < rounding):
            return kept
        self._index.extend(x[np.newaxis], [new])
        left = geometry.remaining(np.float64(new.radius), rounding)
        return new._replace(radius=float(left))

    def _find(self, x, rounding=0.0, first=None):
        """Returns the promise about a point or its rearrangements, or None."""
        images = self._images(x)
        found = [self._index.find(image, rounding, first) for image in images]
        promises = [promise for promise in found if promise is not None]
        if rounding and not promises:
            return self._between(images, rounding)
        return max(promises, key=lambda promise: promise.radius, default=None)

    def _between(self, images, rounding):
        """Returns what may hold at a point that no ball surely contains."""
        promises = [
            promise._replace(radius=0.0)
            for image in images
            for promise in self._index.touching(image, rounding)
        ]
        if len({promise.prediction for promise in promises}) > 1:
            return promises[0]._replace(prediction=-1)
        return promises[0] if promises else None

    def _images(self, x):
        """Returns the rearrangements of a point, including the point itself."""
        if self.identity.symmetries and self._symmetries is None:
            raise ValueError(
                "Expected `bind` to be called first, with the symmetries of "
                f"the memory {self._store.name}. Received: no call"
            )
        if self._symmetries is None:
            return x[np.newaxis]
        return x[self._symmetries]

    def _refresh(self):
        """Reads promises that others have added; returns the current `Head`."""
        dimensions = math.prod(self.identity.shape)
        head = self._store.head()
        if head.num_promises >= len(self._index):
            for rows in self._store.rows_after(
                len(self._index), head.num_promises
            ):
                points, promises, chain = from_rows(
                    rows, len(self._index), self._chain, dimensions
                )
                self._index.extend(points, promises)
                self._chain = chain
        if (len(self._index), self._chain) != (head.num_promises, head.chain):
            raise ValueError(
                f"The memory {self._store.name} is behind. Expected the "
                f"{max(head.num_promises, len(self._index))} promises that it "
                "has returned. Received: fewer, or others. Restore it from a "
                "backup that has them all."
            )
        return head

    def _check_usable(self):
        if self._store is None:
            raise ValueError(
                "Expected an open memory. Received: one that was closed."
            )
        if os.getpid() != self._process:
            # Neither SQLite nor PostgreSQL survives a fork.
            raise ValueError(
                "Expected a memory that this process has opened. Received: one "
                "of the process that it was forked from. Open it here."
            )

    def _check_bound(self):
        self._check_usable()
        if self.identity is None:
            raise ValueError(
                "Expected a memory of a classifier. Received: one that is "
                "empty. Call `bind` first."
            )


def _open(path):
    if path is None:
        return RamStore()
    if isinstance(path, str) and path.startswith(
        ("postgresql://", "postgres://")
    ):
        return PostgresqlStore(path)
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "Invalid value for argument `path`. Expected None, a path or a "
            f"postgresql:// address. Received: path={path!r}"
        )
    return SqliteStore(path)
