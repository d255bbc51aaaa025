"""Which attempt of a run has ended, whether another follows, and whether the operator has told of its end: pure."""

from dataclasses import replace

from lora_api.conditions import is_true
from lora_api.exit_codes import ExitCode
from lora_api.lorajob import FailurePolicy
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.names import STAGE_LABEL
from lora_api.reasons import ConditionType, Reason
from lora_cli.explain.operator import without_operator
from lora_cli.explain.pods import NOTICED_SECONDS
from lora_cli.explain.reading import PodFacts, seconds_since
from lora_cli.explain.snapshot import Document, Snapshot, Standing, Verdict
from lora_cli.render.units import duration

_TRAIN = "train"


def with_attempt(verdict: Verdict, pod: PodFacts, snapshot: Snapshot, status: LoRAJobStatus) -> Verdict:
    """Return the verdict on a pod that failed with its number among the attempts; any other verdict as it is.

    Only the last attempt needs somebody. A disruption is no attempt, and what is permanent is not tried again.
    """
    ended = pod.exit_code is not None or pod.phase == "Failed"
    if not ended or verdict.reason == Reason.INTERRUPTED or pod.permanent:
        return verdict
    counts = _counts(pod, snapshot, status)
    if counts is None:
        return verdict
    tried, allowed = counts
    last = tried >= allowed
    then = "the last one" if last else "and another pod follows by itself"
    text = f"{verdict.sentence.rstrip('. ')}; it was attempt {tried} of {allowed}, {then}"
    return replace(verdict, standing=Standing.TROUBLE if last else Standing.WAITING, sentence=text)


def _counts(pod: PodFacts, snapshot: Snapshot, status: LoRAJobStatus) -> tuple[int, int] | None:
    """Return which attempt it was, and how many there may be: of the run, or of the preflight's own Job.

    None if that Job could not be read.
    """
    if pod.stage == _TRAIN:
        policy = (snapshot.document.get("spec") or {}).get("failurePolicy") or {}
        retries = policy.get("maxFailures", FailurePolicy().max_failures)
        return max(1, status.attempts.failures if status.attempts else 0), retries + 1
    job = next((each for each in snapshot.jobs if _stage(each) == pod.stage), None)
    if job is None:
        return None
    retries = (job.get("spec") or {}).get("backoffLimit") or 0
    return max(1, (job.get("status") or {}).get("failed") or 0), retries + 1


def _stage(document: Document) -> str:
    return str((document["metadata"].get("labels") or {}).get(STAGE_LABEL, ""))


def untold_end(pods: tuple[PodFacts, ...], snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    """Return the verdict on a training that is said to run, and whose pods have all ended; None if one has not."""
    trained = [each for each in pods if each.stage == _TRAIN]
    if not trained or not is_true(status.conditions, ConditionType.RUNNING):
        return None
    if any(each.exit_code is None for each in trained):
        return None
    newest = trained[-1]
    words = newest.words if newest.exit_code != ExitCode.DONE else None
    text = f"The training pod has ended with code {newest.exit_code}" + (f" ({words.message})" if words else "")
    since = min(seconds_since(each.finished, snapshot.now) for each in trained)
    if since > NOTICED_SECONDS:
        return without_operator(f"{text}, and the operator has not said so for {duration(since)}")
    if newest.exit_code != ExitCode.DONE:
        return None  # how it ended says more
    return Verdict(Standing.WAITING, Reason.TRAINING, f"{text} {duration(max(0, since))} ago", "wait a moment")
