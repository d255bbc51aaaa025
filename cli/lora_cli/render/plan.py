"""What a LoRAJob would be, as text: the settings with their defaults, the policy's verdict, the preflight's numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lora_api.job_file import JobFile
from lora_api.messages import Resolved
from lora_cli.render.units import duration, number, size

_TERMS = ("weights", "adapter", "activations", "logits", "working")


@dataclass(frozen=True)
class PolicyVerdict:
    """What an administrator's policy says of a job."""

    verdict: Literal["Allowed", "Refused", "Unknown"] = "Unknown"
    message: str = ""
    """By what it is allowed, which rule refuses it and what would help, or why that is not known."""
    rules: int | None = None
    """Rules that are for the namespace of the job; None if not known."""

    @classmethod
    def allowed(cls, rules: int, source: str, namespace: str) -> "PolicyVerdict":
        """Return the verdict on a job that breaks no rule. `source` is where the policy was read."""
        if rules == 0:
            return cls("Allowed", f"no rule of {source} is for namespace {namespace}", 0)
        return cls("Allowed", f"by {rules} {'rule' if rules == 1 else 'rules'} of {source}", rules)

    def line(self) -> str:
        """Return it on one line."""
        if self.verdict == "Unknown":
            return f"policy: not known: {self.message}"
        if self.verdict == "Refused":
            return f"policy: refused: {self.message}"
        return f"policy: allowed {self.message}" if self.rules else f"policy: allowed: {self.message}"

    def wire(self) -> dict[str, Any]:
        """Return it as JSON values."""
        known = {} if self.rules is None else {"rules": self.rules}
        return {"verdict": self.verdict, "message": self.message} | known


def settings_lines(job: JobFile, written: dict[str, Any]) -> list[str]:
    """Return each setting on a line; those that the file leaves to their default are marked."""
    own = dict(_flat(written, "spec"))
    values = dict(_flat(job.spec.wire(), "spec"))
    width = max(len(name) for name in values)
    return [
        f"  {name:<{width}}  {_shown(name, value)}" + ("" if name in own else "  (default)")
        for name, value in values.items()
    ]


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}")
    elif value not in ({}, [], None):
        yield name, value


def _shown(name: str, value: Any) -> str:
    if name.startswith("spec.pod.env"):
        return f"{len(value)} variables"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def preflight_lines(found: Resolved) -> list[str]:
    """Return what the preflight computed: data, size, batches, memory of one device with its terms, time, engines."""
    plan, memory = found.plan, found.memory_estimate
    terms = ", ".join(f"{name} {size(getattr(memory, name))}" for name in _TERMS if getattr(memory, name))
    batches = f"{plan.total_steps} steps of {plan.micro_batch_size} x {plan.accumulation_steps} rows"
    lines = [
        f"  data     {found.rows} rows, {found.validation_rows} to validate, {number(found.tokens)} tokens an epoch",
        f"  trains   {number(found.trainable_parameters)} of {number(found.parameters)} parameters",
        f"  batches  {batches}, up to {plan.max_length} tokens" + (", packed" if plan.packing else ""),
        f"  memory   {size(memory.total)} a device: {terms}",
    ]
    if found.estimated_seconds is not None:
        lines.append(f"  time     about {duration(found.estimated_seconds)}")
    if found.servable:
        verdicts = [f"{each.engine} {'yes' if each.servable else f'no ({each.message})'}" for each in found.servable]
        lines.append(f"  engines  {', '.join(verdicts)}")
    return lines + [f"  warning  {each}" for each in found.warnings]
