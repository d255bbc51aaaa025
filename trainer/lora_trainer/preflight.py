"""Preflight: everything that can be known before a GPU is asked for.

It reads config, tokenizer, weight headers and the data, tries to write where the adapter will go, and leaves a report.
It never loads a weight.
"""

import secrets

from lora_api.exit_codes import ExitCode
from lora_api.messages import Resolved, TerminationMessage
from lora_api.reasons import Reason
from lora_trainer.context import OUTPUT_FIELD, Context
from lora_trainer.errors import internal
from lora_trainer.logs import log
from lora_trainer.report import write_report
from lora_trainer.request import check_request
from lora_trainer.resolve import resolve
from lora_trainer.termination import Outcome


def preflight(context: Context) -> Outcome:
    """Check the request and store the report. Raises `TrainerError` for whatever would end the training later."""
    check_request(context.job.spec)
    check_output(context)  # before the inputs, because it is quick and most often wrong
    report = resolve(context).report
    write_report(context, report)
    log("preflight passed", report=context.layout.report)
    message = TerminationMessage(
        reason=Reason.FINISHED.value, message=_summary(report.resolved), preflight=report.resolved
    )
    return Outcome(ExitCode.DONE, message)


def check_output(context: Context) -> None:
    """Write, read and delete a small object where the artifacts will lie."""
    probe = context.output(f"{context.layout.run_uri}/.write-test-{secrets.token_hex(8)}")
    content = probe.uri.encode()
    context.storage.write(probe, content)
    try:
        if context.storage.read(probe) != content:
            raise internal(f"{OUTPUT_FIELD}: {probe.uri} reads back as something else", "check the S3 server")
    finally:
        context.storage.delete(probe)


def _summary(resolved: Resolved) -> str:
    plan = resolved.plan
    return (
        f"{resolved.rows} rows, {resolved.validation_rows} for validation, {resolved.tokens} tokens an epoch; "
        f"{plan.total_steps} steps of {plan.micro_batch_size} x {plan.accumulation_steps} rows, "
        f"{resolved.trainable_parameters} trainable parameters"
    )
