"""Says in one sentence each what the preflight found and what the user should know before a GPU is used.

Text for people only; the numbers themselves are in `status.resolved`. Nothing here decides.
"""

from collections.abc import Iterator

from lora_api.messages import Plan, Resolved, Servability

_ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "lorax": "LoRAX", "tgi": "TGI"}
_WARNED = ("vllm", "sglang")
"""The others take few ranks; whoever serves with them reads the status."""
_COUNTS = ("", "K", "M", "B", "T")
_BYTES = ("bytes", "kB", "MB", "GB", "TB")
_VERDICT_LIMIT = 160
"""Characters of one engine's message, so that all of them fit a condition."""


def summarize_preflight(resolved: Resolved) -> str:
    """Return what the preflight found: data, sizes, plan, time, and which engine will load the adapter."""
    return "; ".join(each for each in _parts(resolved) if each)


def preflight_warnings(resolved: Resolved) -> list[str]:
    """Return what the user should know: the trainer's warnings, then the usual engines that cannot load the adapter."""
    told = "\n".join(resolved.warnings).lower()
    usual = [each for each in resolved.servable if each.engine.lower() in _WARNED]
    refused = [each for each in usual if not each.servable and each.engine.lower() not in told]
    return [*resolved.warnings, *(f"{_engine(each)} cannot load the adapter: {each.message}" for each in refused)]


def _parts(resolved: Resolved) -> Iterator[str]:
    rows = f"{resolved.rows} rows" + (
        f" and {resolved.validation_rows} to validate" if resolved.validation_rows else ""
    )
    yield f"{rows} of format {resolved.format}" if resolved.format else rows
    yield f"{resolved.tokens} tokens an epoch"
    yield _parameters(resolved)
    if resolved.adapter_bytes and resolved.full_bytes:
        yield f"adapter {_scaled(resolved.adapter_bytes, _BYTES)}, full copy {_scaled(resolved.full_bytes, _BYTES)}"
    yield _plan(resolved.plan)
    if resolved.estimated_seconds is not None:
        yield f"about {_duration(resolved.estimated_seconds)}"
    yield ", ".join(_verdict(each) for each in resolved.servable)


def _parameters(resolved: Resolved) -> str:
    trainable, total = resolved.trainable_parameters, resolved.parameters
    share = f" ({100 * trainable / total:.2g} %)" if total else ""
    return f"trains {_scaled(trainable, _COUNTS)} of {_scaled(total, _COUNTS)} parameters{share}"


def _plan(plan: Plan) -> str:
    ways = {
        "packed": plan.packing,
        "activations computed twice": plan.activation_checkpointing,
        "base sharded": plan.sharded,
    }
    batches = f"{plan.micro_batch_size} x {plan.accumulation_steps} rows up to {plan.max_length} tokens"
    return ", ".join([f"{plan.total_steps} steps of {batches}", *(way for way, used in ways.items() if used)])


def _verdict(verdict: Servability) -> str:
    message = verdict.message
    short = message if len(message) <= _VERDICT_LIMIT else message[: _VERDICT_LIMIT - 1] + "…"
    return f"{_engine(verdict)} {'yes' if verdict.servable else 'no'}" + (f" ({short})" if short else "")


def _engine(verdict: Servability) -> str:
    return _ENGINES.get(verdict.engine.lower(), verdict.engine)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    """Return a number with three significant digits and its unit, in steps of a thousand."""
    for unit in units[:-1]:
        if value < 999.5:  # what would be rounded to 1000 belongs to the next unit
            return f"{value:.3g} {unit}".strip()
        value /= 1000
    return f"{value:.3g} {units[-1]}"


def _duration(seconds: int) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
