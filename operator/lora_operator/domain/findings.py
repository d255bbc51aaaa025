"""What a training pod said, as the status keeps it: progress, losses, newest checkpoint, micro-batch, overfitting.

A pod speaks twice: by its progress while it runs, and by its last words when it ends. The last known value stays when
the pod is gone, so nothing here ever takes one back for want of news.
"""

from lora_api.messages import Progress, TerminationMessage
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.curve import complete, extend
from lora_operator.domain.status import Draft

_NO_ALARM = "The evaluation loss does not rise while the training loss falls"


def hear_progress(draft: Draft, said: Progress) -> Draft:
    """Return the draft after an answer of a running pod.

    The checkpoint and the alarm go to their own places in the status, and are not repeated in `status.progress`.
    """
    before = draft.status.progress or Progress()
    kept: dict[str, object] = {"checkpoint": None, "overfitting": None}
    if said.micro_batch_size is None:  # a new attempt does not know yet; what the last one found out still holds
        kept |= {"micro_batch_size": before.micro_batch_size, "accumulation_steps": before.accumulation_steps}
    heard = draft.update(
        progress=said.model_copy(update=kept),
        loss_curve=extend(draft.status.loss_curve, said),
        checkpoint=said.checkpoint or draft.status.checkpoint,
    )
    return _alarm(heard, said.overfitting, evaluated=said.eval_loss is not None)


def hear_last_words(draft: Draft, words: TerminationMessage) -> Draft:
    """Return the draft after the end of a pod: what it found out since it was last asked."""
    heard = draft.update(
        loss_curve=complete(draft.status.loss_curve, words),
        checkpoint=words.checkpoint or draft.status.checkpoint,
    )
    if words.micro_batch_size:
        heard = _micro_batch(heard, words.micro_batch_size, words.step)
    return _alarm(heard, words.overfitting, evaluated=words.overfitting is not None)


def _alarm(draft: Draft, sentence: str | None, *, evaluated: bool) -> Draft:
    kind = ConditionType.OVERFITTING
    if sentence:
        return draft.condition(kind, "True", Reason.EVALUATION_LOSS_RISING, sentence)
    return draft.condition(kind, "False", Reason.NO_OVERFITTING, _NO_ALARM) if evaluated else draft


def _micro_batch(draft: Draft, size: int, step: int | None) -> Draft:
    progress = draft.status.progress or Progress(step=step or 0)
    if progress.micro_batch_size == size:
        return draft
    rows = _rows_a_step(draft, progress)
    change = {"micro_batch_size": size, "accumulation_steps": rows // size if rows else None}
    return draft.update(progress=progress.model_copy(update=change))


def _rows_a_step(draft: Draft, progress: Progress) -> int | None:
    """Return the rows that a device takes for one optimizer step, which no smaller micro-batch changes."""
    if progress.micro_batch_size and progress.accumulation_steps:
        return progress.micro_batch_size * progress.accumulation_steps
    plan = draft.status.resolved.plan if draft.status.resolved else None
    return plan.micro_batch_size * plan.accumulation_steps if plan else None
