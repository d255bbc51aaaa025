"""The agent's own measures, and their text for Prometheus. A few counters need no library."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lora_api.delivery import AgentStatus

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class Metrics:
    """Counters since the agent's start."""

    downloads: Counter[str] = field(default_factory=Counter)
    """By result: success or failure."""
    downloaded_bytes: int = 0
    loads: Counter[str] = field(default_factory=Counter)
    load_seconds: float = 0.0
    """Sum over the loads that succeeded."""
    probe_failures: int = 0
    desired_invalid: bool = False
    """Whether the newest desired text is not followed."""


def render(metrics: Metrics, status: AgentStatus) -> str:
    """Return the text format, version 0.0.4."""
    info = (
        _sample(
            "lora_agent_adapter_info",
            1,
            name=each.name,
            served_name=each.served_name,
            digest=each.served_digest or each.digest,
            state=each.state,
        )
        for each in status.adapters
    )
    loads = metrics.loads["success"]
    families = [
        _family("lora_agent_adapter_info", "gauge", "Adapters of this pod.", info),
        _family(
            "lora_agent_downloads_total", "counter", "Downloads by result.", _results("downloads", metrics.downloads)
        ),
        _single("lora_agent_downloaded_bytes_total", "counter", "Bytes downloaded.", metrics.downloaded_bytes),
        _family(
            "lora_agent_loads_total", "counter", "Loads into the engine by result.", _results("loads", metrics.loads)
        ),
        _family(
            "lora_agent_load_seconds",
            "summary",
            "Time of the engine's load calls that succeeded.",
            [
                _sample("lora_agent_load_seconds_sum", metrics.load_seconds),
                _sample("lora_agent_load_seconds_count", loads),
            ],
        ),
        _single("lora_agent_engine_up", "gauge", "Whether the engine answers.", int(status.engine.reachable)),
        _single("lora_agent_engine_restarts_total", "counter", "Restarts of the engine.", status.engine.restarts),
        _single("lora_agent_probe_failures_total", "counter", "Versions that a probe refused.", metrics.probe_failures),
        _single(
            "lora_agent_desired_invalid",
            "gauge",
            "Whether the newest desired state cannot be read.",
            int(metrics.desired_invalid),
        ),
    ]
    return "".join(families)


def _results(what: str, counts: Counter[str]) -> list[str]:
    results = {"success": 0, "failure": 0} | counts
    return [_sample(f"lora_agent_{what}_total", count, result=result) for result, count in sorted(results.items())]


def _single(name: str, kind: str, text: str, value: float) -> str:
    return _family(name, kind, text, [_sample(name, value)])


def _family(name: str, kind: str, text: str, samples: Iterable[str]) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(samples)


def _sample(metric: str, value: float, /, **labels: str) -> str:
    inside = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{metric}{{{inside}}} {value}\n" if inside else f"{metric} {value}\n"
