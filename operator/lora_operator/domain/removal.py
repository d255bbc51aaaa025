"""The steps of a LoRAJob that is being deleted and whose artifacts are to go with it (`deletionPolicy: Delete`).

Our finalizer keeps the object until a Job of the trainer image, with the job's own credentials, has removed the
artifacts. What cannot be done must not hold a namespace for ever: `Retain`, a spec that cannot be followed, and a
namespace that is being deleted, in which no Job can be made any more, all take the finalizer off at once.
"""

from lora_api.artifacts import ArtifactLayout
from lora_api.lorajob import DeletionPolicy
from lora_api.lorajob_status import Failure
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.adapter import belongs_to
from lora_operator.domain.errors import RefusedError, Stall
from lora_operator.domain.failures import blocked, explain_failed_job
from lora_operator.domain.jobs import build_job
from lora_operator.domain.observed import Ownership, Stage, WorkView
from lora_operator.domain.status import Draft
from lora_operator.domain.steps import Context, Deletion, Step, delete_child
from lora_operator.domain.wishes import is_corrected

_WAY_OUT = (
    "or set spec.deletionPolicy to Retain, and the LoRAJob goes at once while its artifacts stay; without a running "
    "operator remove the finalizer lora-operator.io/artifacts"
)


def guard(context: Context, draft: Draft) -> Step:
    """Put our finalizer on a job whose artifacts are to go with it, before there are any; take it off otherwise."""
    spec = context.job.spec
    if spec is None:
        return Step(draft, go_on=True)
    wanted = spec.deletion_policy is DeletionPolicy.DELETE
    return Step(draft, guard=wanted if wanted != context.job.guarded else None, go_on=True)


def retained(context: Context, draft: Draft) -> Step:
    """Let a job go whose artifacts stay, or which never had any."""
    job = context.job
    if job.spec is None or job.spec.deletion_policy is not DeletionPolicy.DELETE or job.status.run is None:
        return Step(draft, guard=False)
    return Step(draft, go_on=True)


def stop(context: Context, draft: Draft) -> Step:
    """Stop what still writes, and take away the LoRAAdapter that would name what is no longer there."""
    seen, why = context.observed, "its LoRAJob is deleted, and its artifacts with it"
    works = [each for each in (seen.preflight, seen.train) if each is not None and _is_ours(each)]
    deletions = [delete_child(each.child, why) for each in works if each.child.ownership is Ownership.OURS]
    view = seen.adapter
    if view is not None and belongs_to(view, context.job) and _is_below(view.uri, context.layout):
        deletions.append(Deletion("LoRAAdapter", view.name, view.uid, why))
    draft = draft.condition(ConditionType.RUNNING, "False", Reason.REMOVING_ARTIFACTS, "The LoRAJob is being deleted")
    wait = context.settings.leftover_interval if works else None
    return Step(draft, delete=tuple(deletions), requeue_after=wait, go_on=not works)


def _is_ours(work: WorkView) -> bool:
    return work.child.ownership in (Ownership.OURS, Ownership.GOING)


def _is_below(uri: str, layout: ArtifactLayout) -> bool:
    return uri.startswith(f"{layout.root}/")


def clean_up(context: Context, draft: Draft) -> Step:
    """Run the Job that removes the artifacts, and let the LoRAJob go when it is done."""
    work, spec = context.observed.cleanup, context.spec or context.job.spec
    if work is None and spec is not None:
        job = build_job(context.job, spec, Stage.CLEANUP, context.settings, draft.status, draft.now)
        return Step(draft, create=(job,), requeue_after=context.settings.missing_pod_interval)
    if work is None:
        return Step(draft, guard=False)
    if work.child.ownership is not Ownership.OURS:
        return _make_way(context, draft, work)
    if work.complete:
        return Step(draft, guard=False, delete=(delete_child(work.child, "it has removed the artifacts"),))
    if work.failed:
        return _failed(context, draft, work)
    missing = context.settings.missing_pod_interval if work.newest is None else None
    return Step(draft, stall=blocked(work, spec), requeue_after=missing)


def _make_way(context: Context, draft: Draft, work: WorkView) -> Step:
    """Wait for a clean-up Job that is on its way out, or was left by an earlier LoRAJob of the same name."""
    again = context.settings.leftover_interval
    if work.child.ownership is Ownership.LEFTOVER:
        why = "an earlier LoRAJob of this name left it"
        return Step(draft, delete=(delete_child(work.child, why),), requeue_after=again)
    return Step(draft, requeue_after=again)


def _failed(context: Context, draft: Draft, work: WorkView) -> Step:
    """Say why the artifacts are still there. Once its access was corrected in the spec, the Job is made anew."""
    spec = context.job.spec
    if spec is not None and is_corrected(context.job) and work.child.attempt_digest != spec.attempt_digest():
        why = "the spec was corrected"
        return Step(draft, delete=(delete_child(work.child, why),), requeue_after=context.settings.leftover_interval)
    failure: Failure = explain_failed_job(work, context.layout)
    message = f"The artifacts under {context.layout.root} could not be removed: {failure.message}"
    hint = f"{failure.hint}; {_WAY_OUT}" if failure.hint else _WAY_OUT
    return Step(draft, stall=Stall(Reason.CLEANUP_FAILED, message, hint))


def is_last_breath(refused: RefusedError) -> bool:
    """Return whether an object was refused because its whole namespace is being deleted."""
    return refused.status == 403 and "is being terminated" in refused.message
