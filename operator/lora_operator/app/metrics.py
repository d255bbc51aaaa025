"""The operator's own metrics for Prometheus. No label names a job: their number has no bound.

`docs/observability.md` explains each one, and a test holds page and registry together. Values are kept as counts, never
computed from all jobs when somebody asks, so that an answer costs the same with one job as with a thousand.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from lora_api.lorajob_status import Phase
from lora_operator.app.admission import Admission
from lora_operator.domain.adapter_plan import AdapterPlan, Standing
from lora_operator.domain.measures import Measure, Measured
from lora_operator.reconcile.keys import Key
from lora_operator.reconcile.queue import Outcome

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds of what the operator itself does."""
_WAIT = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds until something of a job begins: a tenth of a second for a Job, a day in a queue."""
_RUN = (30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0, 259200.0)
"""Seconds of a run: half a minute for a small model, three days for a large one."""
_BYTES = (1e6, 4e6, 16e6, 64e6, 256e6, 1e9, 4e9)
"""Rank 8 on a model of 135 million parameters makes 5 MB, rank 64 on one of 70 billion some 3 GB."""


class Metrics:
    """Counts what the parts of the operator tell it."""

    def __init__(self) -> None:
        """Make the metrics in a registry of their own."""
        self.registry = CollectorRegistry()
        self._phase_of: dict[Key, Phase] = {}
        self._tally: Tally[Phase] = Tally()
        self._refused: set[Key] = set()
        self._make_pass_metrics()
        self._make_job_metrics()
        self._make_adapter_metrics()
        self._make_request_metrics()
        self._make_webhook_metrics()
        self._make_process_metrics()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"loraop_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"loraop_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"loraop_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _make_pass_metrics(self) -> None:
        self._passes = self._counter("reconcile_total", "Reconcile passes.", "kind", "result")
        self._seconds = self._histogram("reconcile_duration_seconds", "Duration of a reconcile pass.", _FAST, "kind")
        self._adds = self._counter("workqueue_adds_total", "Objects that were put into the queue.", "kind")
        self._retries = self._counter("workqueue_retries_total", "Passes that failed and are made again.", "kind")
        self._waited = self._histogram("workqueue_wait_seconds", "Time that an object waited for a worker.", _FAST)
        self._depth = self._gauge("workqueue_depth", "Objects that wait for a worker.")
        self._age = self._gauge("workqueue_oldest_seconds", "Age of the oldest waiting or active object.")

    def _make_job_metrics(self) -> None:
        self._jobs = self._gauge("lorajobs", "LoRAJobs by phase.", "phase")
        for phase in Phase:
            self._jobs.labels(phase=phase.value)
        to_job = self._histogram("time_to_job_seconds", "From apply to the first Job of a stage.", _WAIT, "stage")
        run = self._histogram("run_duration_seconds", "From acceptance to the end of a run.", _RUN, "result")
        failures = self._counter("run_failures_total", "Runs that failed for good.", "reason")
        stalls = self._counter("stalls_total", "Jobs that began to wait for their user.", "reason")
        first_step = self._histogram("time_to_first_step_seconds", "From apply to the first optimizer step.", _WAIT)
        queue_wait = self._histogram("queue_wait_seconds", "Time in a queue of Kueue.", _WAIT)
        node_wait = self._histogram("node_wait_seconds", "Time without a node.", _WAIT)
        attempts = self._counter("failed_attempts_total", "Attempts that failed.")
        disruptions = self._counter("disruptions_total", "Attempts that were interrupted from outside.")
        adapter = self._histogram("adapter_bytes", "Size of a published adapter.", _BYTES)
        self._recorders: dict[Measured, Callable[[Measure], None]] = {
            Measured.TIME_TO_JOB: lambda each: to_job.labels(stage=each.label).observe(each.value),
            Measured.TIME_TO_FIRST_STEP: lambda each: first_step.observe(each.value),
            Measured.QUEUE_WAIT: lambda each: queue_wait.observe(each.value),
            Measured.NODE_WAIT: lambda each: node_wait.observe(each.value),
            Measured.RUN: lambda each: run.labels(result=each.label).observe(each.value),
            Measured.FAILURE: lambda each: failures.labels(reason=each.label).inc(each.value),
            Measured.STALL: lambda each: stalls.labels(reason=each.label).inc(each.value),
            Measured.FAILED_ATTEMPT: lambda each: attempts.inc(each.value),
            Measured.DISRUPTION: lambda each: disruptions.inc(each.value),
            Measured.ADAPTER: lambda each: adapter.observe(each.value),
        }

    def _make_adapter_metrics(self) -> None:
        self._plan_of: dict[Key, AdapterPlan] = {}
        self._adapters = self._gauge("loraadapters", "LoRAAdapters by standing.", "standing")
        for standing in Standing:
            self._adapters.labels(standing=standing.value)
        self._adapter_pods = self._gauge("adapter_pods", "Pods that ask for an adapter, summed over adapters.", "state")
        self._rollouts = self._counter("rollouts_total", "Rollouts of a version that have ended.", "result")
        self._rollout_seconds = self._histogram("rollout_seconds", "From a new version to its end.", _WAIT, "result")
        self._agent_polls = self._counter("agent_polls_total", "Questions to agents in inference pods.", "result")
        for result in ("answered", "failed"):
            self._agent_polls.labels(result=result)

    def _make_request_metrics(self) -> None:
        self._requests = self._counter(
            "api_requests_total", "Requests to the API server; code 0 is none at all.", "verb", "resource", "code"
        )
        self._request_seconds = self._histogram(
            "api_request_duration_seconds", "Duration of a request to the API server.", _FAST, "verb"
        )
        self._polls = self._counter("progress_polls_total", "Questions to training pods.", "result")
        for result in ("answered", "failed"):
            self._polls.labels(result=result)
        self._pods = self._gauge("progress_pods", "Training pods that are asked for their progress.")

    def _make_webhook_metrics(self) -> None:
        self._admissions = self._counter("webhook_admissions_total", "Pods that the webhook was asked about.", "result")
        for result in Admission:
            self._admissions.labels(result=result.value)
        self._admission_seconds = self._histogram(
            "webhook_admission_duration_seconds", "Duration of an answer of the webhook.", _FAST
        )

    def _make_process_metrics(self) -> None:
        self._leader = self._gauge("leader", "1 in the replica that reconciles, 0 in the others.")
        build = self._gauge("build_info", "Version of the operator.", "version")
        build.labels(version=version("lora-operator")).set(1)
        ProcessCollector(registry=self.registry)

    def added(self, key: Key) -> None:
        """Count an object that was put into the queue."""
        self._adds.labels(kind=key.kind.value).inc()

    def observe(self, key: Key, outcome: Outcome) -> None:
        """Count a finished pass."""
        kind = key.kind.value
        result = "error" if outcome.error else "refused" if key in self._refused else "success"
        self._refused.discard(key)
        self._passes.labels(kind=kind, result=result).inc()
        self._seconds.labels(kind=kind).observe(outcome.seconds)
        self._waited.observe(outcome.waited)
        if outcome.error:
            self._retries.labels(kind=kind).inc()

    def refused(self, key: Key) -> None:
        """Note that the API server refused an object of the pass that is under way."""
        self._refused.add(key)

    def record(self, measures: Iterable[Measure]) -> None:
        """Record what a pass found out."""
        for each in measures:
            self._recorders[each.what](each)

    def saw(self, key: Key, phase: Phase | None) -> None:
        """Note the phase of a job, None when it is gone. After a start every job has a pass, so all are known soon."""
        before = self._phase_of.pop(key, None)
        if phase is not None:
            self._phase_of[key] = phase
        if phase is before:
            return
        for each, change in ((before, -1), (phase, 1)):
            if each is not None:
                self._tally[each] += change
                self._jobs.labels(phase=each.value).set(self._tally[each])

    def delivered(self, key: Key, plan: AdapterPlan | None) -> None:
        """Note where a LoRAAdapter and its pods stand, None when it is gone."""
        for each, change in ((self._plan_of.pop(key, None), -1), (plan, 1)):
            if each is not None:
                self._adapters.labels(standing=each.standing.value).inc(change)
                for state, count in each.counts.items():
                    self._adapter_pods.labels(state=state).inc(change * count)
        if plan is None:
            return
        self._plan_of[key] = AdapterPlan(counts=plan.counts, standing=plan.standing)
        if plan.rollout is not None:
            stage, seconds = plan.rollout
            self._rollouts.labels(result=stage.value).inc()
            self._rollout_seconds.labels(result=stage.value).observe(seconds)

    def asked_agent(self, answered: bool) -> None:
        """Count a question to an agent."""
        self._agent_polls.labels(result="answered" if answered else "failed").inc()

    def requested(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """Count a request to the API server; `status` is 0 when there was no answer."""
        self._requests.labels(verb=verb, resource=resource, code=str(status)).inc()
        self._request_seconds.labels(verb=verb).observe(seconds)

    def admitted(self, admission: Admission, seconds: float) -> None:
        """Count an answer of the webhook."""
        self._admissions.labels(result=admission.value).inc()
        self._admission_seconds.observe(seconds)

    def polled(self, answered: bool) -> None:
        """Count a question to a training pod."""
        self._polls.labels(result="answered" if answered else "failed").inc()

    def lead(self, leads: bool) -> None:
        """Note whether this replica is the one that reconciles. One that is not knows of no jobs."""
        self._leader.set(leads)
        if not leads:
            for key in list(self._phase_of):
                self.saw(key, None)
            for key in list(self._plan_of):
                self.delivered(key, None)

    def watch_queue(self, depth: Callable[[], float], age: Callable[[], float]) -> None:
        """Read the state of the queue whenever the metrics are asked for."""
        self._depth.set_function(depth)
        self._age.set_function(age)

    def watch_pods(self, pods: Callable[[], float]) -> None:
        """Read the number of polled pods whenever the metrics are asked for."""
        self._pods.set_function(pods)

    def serve(self, port: int, address: str) -> int:
        """Serve /metrics from a thread of its own, so that a busy event loop can be seen from outside.

        Returns the port, which the system chooses when 0 is asked for.
        """
        server, _ = start_http_server(port, addr=address, registry=self.registry)
        return int(server.server_port)
