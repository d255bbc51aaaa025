"""The next status of a job, built by small steps from the last one.

A `Draft` is a value: each method returns another draft. Conditions keep their transition time by the rule of
`lora_api.conditions`; `phase` and `reason` are derived at the end and never read back.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lora_api.artifacts import short_digest
from lora_api.conditions import Condition, ConditionStatus, find_condition, is_true, set_condition, whole_seconds
from lora_api.lorajob_status import MAX_HISTORY, Attempts, Failure, LoRAJobStatus, Phase, RunRecord
from lora_api.messages import Activity, AdapterResult, Progress
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import ObservedJob

_MESSAGE_LIMIT = 2048
"""Bound of a condition's message in the CRD."""


def is_finished(status: LoRAJobStatus) -> bool:
    """Return whether the run has ended. This lives in the status, so removing pods and Jobs cannot undo it."""
    return any(is_true(status.conditions, each) for each in (ConditionType.SUCCEEDED, ConditionType.FAILED))


@dataclass(frozen=True, slots=True)
class Draft:
    """A status under construction."""

    status: LoRAJobStatus
    generation: int
    now: datetime

    def update(self, **fields: Any) -> "Draft":
        """Return the draft with fields of the status replaced."""
        return replace(self, status=self.status.model_copy(update=fields))

    def condition(self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: str) -> "Draft":
        """Return the draft with a condition set."""
        new = Condition(
            type=kind,
            status=status,
            observed_generation=self.generation,
            last_transition_time=self.now,
            reason=reason,
            message=message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…",
        )
        return self.update(conditions=list(set_condition(self.status.conditions, new)))

    def is_true(self, kind: ConditionType) -> bool:
        """Return whether a condition is True."""
        return is_true(self.status.conditions, kind)

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return is_finished(self.status)

    def first_seen(self) -> "Draft":
        """Return the draft with the condition that a job has from its first visit on."""
        if find_condition(self.status.conditions, ConditionType.PREFLIGHT_PASSED):
            return self
        return self.condition(
            ConditionType.PREFLIGHT_PASSED, "Unknown", Reason.ACCEPTED, "The preflight has not started yet"
        )

    def accepted(self, job: ObservedJob) -> "Draft":
        """Return the draft of a job whose first run begins."""
        return _begun(self, 1, job)

    def next_run(self, job: ObservedJob) -> "Draft":
        """Return the draft of a job whose next run begins. Of the last one only a line in the history stays."""
        last = self.status
        fresh = replace(self, status=LoRAJobStatus(history=[_record(last), *last.history][:MAX_HISTORY]))
        return _begun(fresh, (last.run or 0) + 1, job).first_seen()

    def tried_with(self, attempt_digest: str) -> "Draft":
        """Return the draft of a run whose attempts are those of the spec as it is now."""
        return self.update(attempt_digest=attempt_digest, attempt_generation=self.generation)

    def reopened(self, attempt_digest: str) -> "Draft":
        """Return the draft of a failed run that goes on, with all its attempts before it again."""
        text = "The spec was corrected, and the run goes on"
        draft = self.condition(ConditionType.FAILED, "False", Reason.RESUMED, text)
        preflight = find_condition(self.status.conditions, ConditionType.PREFLIGHT_PASSED)
        if preflight and preflight.status == "False":
            draft = draft.condition(ConditionType.PREFLIGHT_PASSED, "Unknown", Reason.ACCEPTED, text)
        return draft.tried_with(attempt_digest).update(
            completion_time=None, failure=None, adapter=None, attempts=Attempts()
        )

    def stalled(self, stall: Stall) -> "Draft":
        """Return the draft of a job that cannot go on without the user. A failure that is final stays."""
        text = f"{stall.message}. What to do: {stall.hint}" if stall.hint else stall.message
        draft = self.condition(ConditionType.STALLED, "True", stall.reason, text)
        return draft if draft.finished else draft.update(failure=stall.as_failure())

    def not_stalled(self, notice: Failure | None = None) -> "Draft":
        """Return the draft of a job that the user need not help (any more); `notice` says what it waits for."""
        draft = self if self.is_true(ConditionType.FAILED) else self.update(failure=notice)
        if not self.is_true(ConditionType.STALLED):
            return draft
        return draft.condition(ConditionType.STALLED, "False", Reason.ACCEPTED, "Nothing holds the job up any more")

    def failed(self, failure: Failure) -> "Draft":
        """Return the draft of a run that has failed for good."""
        text = f"{failure.message}. What to do: {failure.hint}" if failure.hint else failure.message
        draft = self._ended().condition(ConditionType.FAILED, "True", Reason(failure.reason), text)
        return draft.update(failure=failure)

    def succeeded(self, adapter: AdapterResult, step: int | None) -> "Draft":
        """Return the draft of a run whose adapter is published and to be served."""
        message = f"The adapter is published at {adapter.uri}"
        draft = self._ended().published(adapter, step)
        return draft.condition(ConditionType.SUCCEEDED, "True", Reason.ADAPTER_PUBLISHED, message)

    def published(self, adapter: AdapterResult, step: int | None) -> "Draft":
        """Return the draft of a run that trained to its end and published what came of it."""
        progress = self.status.progress or Progress()
        done = {
            "activity": Activity.FINISHED,
            "percent": 100.0,
            "eta_time": None,
            "step": step or progress.step,
            "loss": adapter.metrics.get("trainLoss", progress.loss),
            "eval_loss": adapter.metrics.get("evalLoss", progress.eval_loss),
        }
        return self.update(
            adapter=adapter,
            adapter_digest_short=short_digest(adapter.digest),
            progress=progress.model_copy(update=done),
        )

    def _ended(self) -> "Draft":
        draft = self.condition(ConditionType.RUNNING, "False", Reason.FINISHED, "The run has ended")
        return draft.update(completion_time=self.now)

    def complete(self) -> LoRAJobStatus:
        """Return the finished status: every condition speaks of the generation that was looked at, and the summary."""
        conditions = [
            each.model_copy(update={"observed_generation": self.generation}) for each in self.status.conditions
        ]
        phase, reason = summarize(self.status)
        return self.status.model_copy(
            update={
                "observed_generation": self.generation,
                "conditions": conditions,
                "phase": phase,
                "reason": reason,
            }
        )


def _begun(draft: Draft, run: int, job: ObservedJob) -> Draft:
    spec = job.spec
    begun = draft.update(
        run=run,
        spec_digest=spec.result_digest() if spec else None,
        spec_generation=job.generation,
        restart=job.restart or None,
        start_time=draft.now,
        attempts=Attempts(),
    )
    return begun.tried_with(spec.attempt_digest()) if spec else begun


def _record(status: LoRAJobStatus) -> RunRecord:
    """Return the line of a run in the history."""
    failed = find_condition(status.conditions, ConditionType.FAILED)
    ended = is_finished(status)
    result = Phase.SUCCEEDED if is_true(status.conditions, ConditionType.SUCCEEDED) else Phase.FAILED
    return RunRecord(
        run=status.run or 0,
        result=result.value if ended else "Superseded",
        reason=failed.reason if failed and failed.status == "True" else None,
        digest=status.adapter.digest if status.adapter else None,
        finished_time=status.completion_time,
    )


def is_same(one: LoRAJobStatus, other: LoRAJobStatus) -> bool:
    """Return whether two statuses say the same. The order of conditions means nothing; the server may choose it."""
    return _ordered(one) == _ordered(other)


def _ordered(status: LoRAJobStatus) -> LoRAJobStatus:
    return status.model_copy(update={"conditions": sorted(status.conditions, key=lambda each: each.type)})


def begin(job: ObservedJob, now: datetime) -> Draft:
    """Return the draft that starts from the last status."""
    return Draft(status=job.status, generation=job.generation, now=whole_seconds(now)).first_seen()


def summarize(status: LoRAJobStatus) -> tuple[Phase, str]:
    """Return the phase, and the reason of the condition that it comes from."""
    for kind, phase in _PHASES:
        found = find_condition(status.conditions, kind)
        if found and found.status == "True":
            return phase, found.reason
    admitted = find_condition(status.conditions, ConditionType.ADMITTED)
    if admitted and admitted.status == "False":
        return Phase.QUEUED, admitted.reason
    preflight = find_condition(status.conditions, ConditionType.PREFLIGHT_PASSED)
    if preflight and preflight.status == "True":
        return Phase.SCHEDULING, _first_reason(status, ConditionType.RUNNING, Reason.WAITING_FOR_POD)
    if preflight and preflight.reason == Reason.PREFLIGHT_RUNNING:
        return Phase.PREFLIGHT, preflight.reason
    return Phase.PENDING, Reason.ACCEPTED


_PHASES = (
    (ConditionType.SUCCEEDED, Phase.SUCCEEDED),
    (ConditionType.FAILED, Phase.FAILED),
    (ConditionType.STALLED, Phase.STALLED),
    (ConditionType.SUSPENDED, Phase.SUSPENDED),
    (ConditionType.RUNNING, Phase.RUNNING),
)
"""Condition that is True, and the phase that it makes; the first one wins."""


def _first_reason(status: LoRAJobStatus, kind: ConditionType, default: Reason) -> str:
    scheduled = find_condition(status.conditions, ConditionType.SCHEDULED)
    if scheduled and scheduled.reason == Reason.UNSCHEDULABLE:
        return scheduled.reason
    found = find_condition(status.conditions, kind)
    return found.reason if found else default
