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
    """The promises made: certified balls, and what later queries owe to them.

    A classifier that chooses its noise by the input has no certificate by
    itself, since at another point of the ball it may choose other noise. So it
    keeps its word instead. Every query, for a class or for a certificate, asks
    the memory first:

    - at most the radius away from an earlier point: the answer is that point's
      class, with the radius that remains (of several balls, the largest);
    - elsewhere: the certificate found there is clipped, so that its ball
      touches none of another class, and is promised from then on.

    Then no two balls of different classes ever have a point in common, and
    every point of every ball is answered with the ball's class: exactly, as
    real numbers, also where a point lies on a border. A radius of 0 promises
    the point itself, and leaves it to a later certificate of that class to
    promise more. An abstention promises nothing, and contradicts nothing.

    Under a group a promise is about all rearrangements of a point: they are
    looked up, and kept clear of, together.

    What is promised depends on the order of the queries, and mistakes add up.
    An answer that was drawn for is wrong with probability at most its `alpha`
    (another class is the most probable under the noise), and answers are kept:
    whoever asks often enough about a point that is hard to decide gets a wrong
    one. So every query that draws is counted before its answer leaves, be it
    an abstention: `num_queries` is their number, `alpha_spent` the sum of their
    alphas. Examples of one call share their draws; those that are answered by
    what the call itself has promised count, too. Then, by the union bound,

    - for a sum s fixed beforehand: with probability at least 1 - s, all answers
      that were given while `alpha_spent` was at most s are right;
    - with `total_alpha`: with probability at least 1 - total_alpha, all answers
      that the memory will ever give are right. The k-th query draws at `alpha =
      min(alpha, total_alpha * 6 / (pi k)^2)`, and these add up to no more.

    Both hold however queries follow from earlier answers, as long as each call
    has a fresh seed, which is the default, and nobody chooses queries by
    answers of a call that still runs. Later shares are smaller, and prove
    smaller radii by the same draws. What was counted stays counted: a call that
    is killed goes on, when it is resumed by its log, with the share that is
    next, and counts the examples that were not counted yet.

    With a path, promises live in an SQLite file that several processes of a
    machine may share: lookup and insertion are one transaction, and a promise
    that was returned survives a kill and a loss of power. With a
    `postgresql://` address they live on a server, for many machines. Each
    process also holds the points in RAM, four bytes for a coordinate.

    Args:
        path: None for promises in RAM; a path; or the address of a PostgreSQL
            database, for which `pip install keras_smoothing[memory-server]`.
        total_alpha: float in (0, 1), the probability that any answer is wrong,
            ever, which queries share; or None for queries at the alpha that
            they ask for. It is kept with the promises: None takes that of a
            memory that exists.

    Attributes:
        identity: what the promises are about, a tuple of `model`, `norm`,
            `shape`, a hash of the `symmetries`, `voting` and `serialized`; None
            before `bind`.
        total_alpha: float or None.
        num_queries: int, how many queries were counted, by all processes.
        alpha_spent: float, the sum of their alphas.
        head: `Head`, how much it holds: `num_promises`, `num_queries`, and a
            hash of all promises, the `chain`. See `check_holds`.

    Raises:
        ValueError: if the folder is missing, or if what is at the path is
            not a memory, is damaged, or has another `total_alpha`.
        OSError: if it cannot be reached, read or written: `PermissionError`,
            `TimeoutError` for one that another process keeps locked,
            `ConnectionError`, or another with the reason. All methods raise it;
            what was not returned was not promised.

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
        self._inside = False  # Of a transaction.
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
        """Says which classifier makes the promises, or checks it.

        Args:
            model: str, the fingerprint of the base model.
            norm: `"l1"` or `"l2"`, the norm of its certificates.
            shape: tuple of ints, the shape of one example.
            symmetries: int array, shape `(order, coordinates)`: a group of
                rearrangements of the coordinates of an example, as indices,
                that the classifier does not tell apart; or None.
            voting: "hard" or "soft".
            serialized: str, the form of serialized smoothing, where its votes
                are of another classifier than the base model as it is:
                "Exact", of the fixed point; else empty.

        Raises:
            ValueError: if the memory is of another model, norm, shape, group,
                voting or form.
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
        """Raises where promises are missing that were there at an earlier time.

        Args:
            head: `Head` of this memory, as it was then.

        Raises:
            ValueError: if it holds fewer promises or queries than `head`, or
                other promises.
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
        """Counts queries that are going to draw, before they are answered.

        Args:
            count: int >= 0, how many.
            alpha: float in (0, 1), the alpha that they ask for.

        Returns:
            float64 array, shape `(count,)`: the alpha that each is to be
            answered at. It is spent from now on, whatever comes of the query.

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
        """What has been promised of points.

        Args:
            x: float32 array, shape `(examples, ...)`, in input units.
            rounding: float or float array, shape `(examples,)`: how far the
                points that are asked about may be from `x`, in the norm of the
                memory, as by rounding them to float32.
            first: int, how many of the promises are looked at, from the oldest
                on; or None for all.

        Returns:
            list of `Promise`, with the radius that remains around each point;
            None for points that no ball contains. A point that may lie in a
            ball or just outside of it has the class of the ball and the radius
            0; between balls of two classes, it has an abstention.

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
        """Promises what certificates say, as far as earlier promises allow.

        The points are decided in order, each in view of those before it, and
        looked up once more: another process may have promised meanwhile. All
        is one transaction.

        Args:
            x: float32 array, shape `(examples, ...)`, in input units.
            prediction: int array, shape `(examples,)`; `ks.ABSTAIN` (-1) for
                none.
            radius: float array, shape `(examples,)`, in input units and the
                norm of the memory; 0 for a class without a certificate.
            scale: float or float array, shape `(examples,)`: what the noise
                was multiplied by. One for each coordinate, as a float32
                array, shape `(examples, ...)`, promises the ellipsoid with
                semi-axes `radius * scale / min(scale)`. Between ellipsoids of
                different classes some room is lost, since they are told apart
                by the triangle inequality in the norm of either.
            alpha: float or float array, shape `(examples,)`: probability that
                a certificate is wrong.
            stddev: float > 0, the standard deviation of the noise that was
                multiplied. Memories may be shared by noises of several sigmas.
            noise: str, that noise in words.
            rounding: as of `look_up`. Balls are around `x`; the promises that
                are returned are around the points asked about.

        Returns:
            list of `Promise`, those to be answered with. Of an abstention
            outside all balls, an abstention; so of a point that no ball is sure
            to reach.

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
        """A context in which all that is counted and promised is kept, or none.

        Other processes wait for its end, and an exception takes all of it back.
        """
        with self._lock:
            self._check_bound()
            if self._inside:
                yield
                return
            self._refresh()  # The bulk of it before others have to wait.
            self._inside, known = True, (len(self._index), self._chain)
            try:
                with self._store.exclusive():
                    self._refresh()
                    known = len(self._index), self._chain
                    yield
            except BaseException:
                # Whatever the store has kept all the same is read from there.
                length, self._chain = known
                self._index.truncate(length)
                raise
            finally:
                self._inside = False

    def told(self, queries):
        """What a run with a log was told before it was interrupted.

        Args:
            queries: list of str, a hash of each example and its place.

        Returns:
            list of `Answer`; None for what the run has not got to.
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
        """Keeps what a run with a log is told, for `told`.

        Args:
            answers: dict from queries, as of `told`, to `Answer`.
        """
        with self.transaction():
            self._store.keep_answers(
                [kept.to_row(*each) for each in answers.items()]
            )

    def backup(self, path):
        """Copies a memory in a file to a new file, while others may write.

        A copy by other means may lack the end, and is refused. Never go on
        with an older copy where promises were returned since: they may be
        contradicted.

        Args:
            path: path of the copy, in an existing folder. It gets a file
                `<path>.head` beside it, as every memory has: both belong
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
            len(copy)  # Reads, and checks, all of it.

    def close(self):
        """Lets go of the file or the server. A second call does nothing."""
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
        """Yields the points, shape `(...)`, and the `Promise` of each."""
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
        """A promise of the index with scales of the shape of an example."""
        if np.ndim(promise.scale) == 0:
            return promise
        scale = promise.scale.reshape(self.identity.shape).copy()
        return promise._replace(scale=scale)

    def _decide(self, x, wanted, rounding):
        """Answers one point, and adds to the index what is new."""
        found = self._find(x, rounding)
        # A point that no ball is sure to reach is not answered: another class
        # may be promised of it later.
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
        """What is promised of a point or of its rearrangements, or None."""
        images = self._images(x)
        found = [self._index.find(image, rounding, first) for image in images]
        promises = [promise for promise in found if promise is not None]
        if rounding and not promises:
            return self._between(images, rounding)
        return max(promises, key=lambda promise: promise.radius, default=None)

    def _between(self, images, rounding):
        """What may be promised of a point that no ball is sure to contain."""
        promises = [
            promise._replace(radius=0.0)
            for image in images
            for promise in self._index.touching(image, rounding)
        ]
        if len({promise.prediction for promise in promises}) > 1:
            return promises[0]._replace(prediction=-1)
        return promises[0] if promises else None

    def _images(self, x):
        """The rearrangements of a point, the point itself among them."""
        if self.identity.symmetries and self._symmetries is None:
            raise ValueError(
                "Expected `bind` to be called first, with the symmetries of "
                f"the memory {self._store.name}. Received: no call"
            )
        if self._symmetries is None:
            return x[np.newaxis]
        return x[self._symmetries]

    def _refresh(self):
        """Reads what others have promised since; returns the `Head` then."""
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
