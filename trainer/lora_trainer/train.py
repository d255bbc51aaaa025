"""Training: one story, from the job file to the manifest."""

import os
from collections.abc import Mapping

from lora_api.exit_codes import ExitCode
from lora_api.messages import Activity, AdapterResult, Plan, Resolved, TerminationMessage
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason
from lora_api.training import Checkpointing, Gate
from lora_trainer.checkpoint.state import TrainingState, read_state
from lora_trainer.checkpoint.store import CheckpointStore, Identity
from lora_trainer.checkpoint.uploader import BackgroundUploader, announce
from lora_trainer.context import Context
from lora_trainer.deliver import deliver
from lora_trainer.errors import invalid_request
from lora_trainer.launch import micro_batch_divisor
from lora_trainer.logs import log, warn
from lora_trainer.model.build import build_model
from lora_trainer.model.fetch import download_base
from lora_trainer.model.load import choose_device, choose_precision, device_memory
from lora_trainer.ranks import join_ranks, own_device
from lora_trainer.report import Report, read_report
from lora_trainer.request import check_request
from lora_trainer.resolve import Resolution, resolve
from lora_trainer.termination import Outcome
from lora_trainer.training.metrics import gain
from lora_trainer.training.plan import fit_plan, halved
from lora_trainer.training.setup import make_trainer
from lora_trainer.training.trainer import LoraTrainer
from lora_trainer.training.watching import watched


def train(context: Context) -> Outcome:
    """Train the adapter that the job asks for, publish it, and return the last words of the pod.

    Raises `TrainerError` for every foreseen end.
    """
    spec = context.job.spec
    check_request(spec)
    device = own_device(choose_device(spec))
    ranks = join_ranks(device.type, spec.failure_policy.stall_timeout_seconds)
    dtype = choose_precision(spec.training.precision, device)

    resolution = resolve(context)
    resolved = agreed(read_report(context), resolution)
    plan = fit_plan(resolved, resolution.base.config, spec, dtype.itemsize, device_memory(device))

    store = checkpoint_store(context, resolved)
    found = newest_state(context, store)
    plan = adapted(plan, found, micro_batch_divisor(os.environ))

    context.progress.enter(Activity.LOADING_MODEL)
    folder = download_base(context.storage, resolution.base, context.workspace)
    model, plan = build_model(
        folder, spec, resolution.labels, plan, dtype, device, ranks, initial=found.initial if found else None
    )

    uploader = BackgroundUploader(store, announce(context)) if ranks.first else None
    trainer = make_trainer(context, resolution, plan, model, found=found, uploader=uploader, ranks=ranks, device=device)
    with watched(context, uploader):
        trainer.run()

    context.progress.enter(Activity.PUBLISHING)
    with context.stop.deferred():  # a few seconds that finish the work of hours
        result = deliver(context, resolution, resolved, trainer, folder)
    return outcome(spec.evaluation.gate if spec.evaluation else None, result, trainer)


def checkpoint_store(context: Context, resolved: Resolved) -> CheckpointStore:
    """Return the checkpoints of this run, as far as they are of the same training."""
    spec = context.job.spec
    identity = Identity(spec.result_digest(), resolved.dataset_digest, resolved.base_revision)
    return CheckpointStore(context, identity, keep=(spec.training.checkpoint or Checkpointing()).keep)


def newest_state(context: Context, store: CheckpointStore) -> TrainingState | None:
    """Return the state to go on from, or None for a run that begins."""
    found = store.newest()
    if found is None:
        return None
    log("going on from a checkpoint", step=found.step)
    context.stop.checkpoint_step = found.step
    context.progress.update(resumed_from_step=found.step, checkpoint=found.saved)
    return read_state(found.folder)


def adapted(plan: Plan, found: TrainingState | None, divisor: int) -> Plan:
    """Return the plan with the smaller micro-batch that an earlier attempt, or the launcher, found to fit."""
    smallest = Plan.model_validate(found.position).micro_batch_size if found else plan.micro_batch_size
    wanted = min(smallest, max(1, plan.micro_batch_size // divisor))
    while plan.micro_batch_size > wanted and (smaller := halved(plan)):
        plan = smaller
    return plan


def agreed(report: Report | None, resolution: Resolution) -> Resolved:
    """Return what preflight and training agree on. Raises 64 when an input changed between them."""
    found = resolution.report.resolved
    if report is None:
        return found
    expected = report.resolved
    if expected.base_revision != found.base_revision:
        raise _changed("spec.baseModel.uri: the base model", expected.base_revision, found.base_revision)
    if expected.dataset_digest != found.dataset_digest:
        raise _changed("spec.dataset: the data", expected.dataset_digest, found.dataset_digest)
    return expected


def outcome(gate: Gate | None, result: AdapterResult, trainer: LoraTrainer) -> Outcome:
    """Return how the training ended: done, or published and not good enough for the gate (81)."""
    step = trainer.state.global_step
    message = f"published {result.digest}, the model of step {trainer.published_step} of {step}"
    if gate is not None and (missed := missed_gate(gate, result.metrics)):
        return _failed_gate(f"{message}; {missed}", step, result)
    done = TerminationMessage(reason=Reason.FINISHED.value, message=message, step=step, adapter=result)
    return Outcome(ExitCode.DONE, done)


def missed_gate(gate: Gate, metrics: Mapping[str, float]) -> str:
    """Return why the metrics of an adapter do not pass a gate; empty when they do.

    What was not measured passes no gate, and trying again would not measure it either.
    """
    name = gate.metric.value
    before, after = metrics.get(f"base{name[0].upper()}{name[1:]}"), metrics.get(name)
    if before is None or after is None:
        return f"spec.evaluation.gate asks for {name}, which the run has not measured before and after"
    if gain(gate.metric, before, after) >= gate.minimum_gain:
        return ""
    asked = f"spec.evaluation.gate asks for a gain of {gate.minimum_gain:g}"
    return f"{name} went from {before:.4g} to {after:.4g}, and {asked}"


def _failed_gate(message: str, step: int, result: AdapterResult) -> Outcome:
    code = ExitCode.GATE_NOT_PASSED
    last_words = TerminationMessage(
        reason=REASON_OF_EXIT_CODE[code].value,
        message=message,
        hint="improve data or settings, or lower spec.evaluation.gate.minimumGain",
        step=step,
        adapter=result,
    )
    return Outcome(code, last_words)


def _changed(what: str, before: str, now: str) -> Exception:
    warn("an input changed during the job", before=before, now=now)
    return invalid_request(
        f"{what} changed between preflight and training: {before[:19]} became {now[:19]}",
        "change the spec or recreate the job, so that a new run checks it again",
    )
