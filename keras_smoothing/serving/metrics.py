import prometheus_client as prometheus

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_EXAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Metrics of the service, in Prometheus's format."""

    def __init__(self):
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        self._requests = self._make(
            prometheus.Counter,
            "requests",
            "Requests by status; 499 for a client that has hung up",
            ["path", "status"],
        )
        self._refused = self._make(
            prometheus.Counter,
            "refused",
            "Requests without an answer, by status",
            ["path", "status"],
        )
        self._latency = self._make(
            prometheus.Histogram,
            "latency_seconds",
            "Seconds of a request that was answered, from its first byte on",
            ["path"],
            buckets=_SECONDS,
        )
        self._examples = self._make(
            prometheus.Counter, "examples", "Examples answered", ["path"]
        )
        self._abstentions = self._make(
            prometheus.Counter,
            "abstentions",
            "Examples for which the answer is that there is none",
            ["path"],
        )
        self._batches = self._make(
            prometheus.Histogram,
            "batch_examples",
            "Examples of a batch",
            buckets=_EXAMPLES,
        )
        self._queue = self._make(
            prometheus.Gauge, "queue_requests", "Requests that wait for a batch"
        )

    def watch(self, waiting):
        """Reports the length of this list as the queue's length."""
        self._queue.set_function(lambda: len(waiting))

    def on_request(self, path, status, seconds):
        """Records the end of a request."""
        self._requests.labels(path, status).inc()
        if status < 400:
            self._latency.labels(path).observe(seconds)
        else:
            self._refused.labels(path, status).inc()

    def on_batch(self, examples):
        """Records the start of a batch."""
        self._batches.observe(examples)

    def on_answers(self, path, examples, abstentions):
        """Records the answered examples of a request."""
        self._examples.labels(path).inc(examples)
        self._abstentions.labels(path).inc(abstentions)

    def page(self):
        """All metrics, as bytes."""
        return prometheus.generate_latest(self._registry)

    def _make(self, kind, name, *arguments, **settings):
        return kind(
            name,
            *arguments,
            namespace="keras_smoothing",
            registry=self._registry,
            **settings,
        )
