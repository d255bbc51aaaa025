"""The Grafana dashboard: jobs, serving and the operator itself, by its own metrics and those of the agents.

Pure. A panel is one line of a table here; the places follow from the order. Every expression works with Prometheus
alone. A test holds the names against the metrics that are served.
"""

from dataclasses import dataclass
from typing import Any

Panel = dict[str, Any]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _ROW_HEIGHT, _COLUMNS = 8, 8, 1, 3
_RATE = "$__rate_interval"


@dataclass(frozen=True)
class Chart:
    """One panel: lines over time, or with `kind` "stat" the newest number."""

    title: str
    about: str
    expressions: dict[str, str]
    """Expressions by what their lines are called; braces stand for a label."""
    unit: str = "short"
    kind: str = "timeseries"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[{_RATE}]))"


def _total_rate(metric: str) -> str:
    return f"sum(rate({metric}[{_RATE}]))"


def _last_hour(metric: str) -> str:
    return f"sum(increase({metric}[1h]))"


def _quantiles(metric: str, selector: str = "") -> dict[str, str]:
    """Return the median and the slowest hundredth of a histogram."""
    buckets = f"sum by (le) (rate({metric}_bucket{selector}[{_RATE}]))"
    return {"median": f"histogram_quantile(0.5, {buckets})", "99 %": f"histogram_quantile(0.99, {buckets})"}


def _median(metric: str) -> str:
    return _quantiles(metric)["median"]


JOBS = (
    Chart("Jobs by phase", "LoRAJobs of all namespaces.", {"{{phase}}": "sum by (phase) (loraop_lorajobs)"}),
    Chart("Runs that ended", "Per second.", {"{{result}}": _rate("loraop_run_duration_seconds_count", "result")}),
    Chart("Duration of runs", "From acceptance to the end.", _quantiles("loraop_run_duration_seconds"), "s"),
    Chart("Failures", "Runs that failed for good.", {"{{reason}}": _rate("loraop_run_failures_total", "reason")}),
    Chart("Jobs that wait for their users", "By reason.", {"{{reason}}": _rate("loraop_stalls_total", "reason")}),
    Chart(
        "Attempts",
        "Those that failed, tried again or not, and those that were interrupted from outside.",
        {
            "failed": _total_rate("loraop_failed_attempts_total"),
            "interrupted": _total_rate("loraop_disruptions_total"),
        },
    ),
    Chart(
        "From apply to the first Job",
        "Of new jobs.",
        _quantiles("loraop_time_to_job_seconds", '{stage="preflight"}'),
        "s",
    ),
    Chart(
        "From apply to the first step",
        "Queue, node, image and model included.",
        _quantiles("loraop_time_to_first_step_seconds"),
        "s",
    ),
    Chart(
        "Waits",
        "Median of the time in a queue of Kueue, and without a node.",
        {"queue": _median("loraop_queue_wait_seconds"), "node": _median("loraop_node_wait_seconds")},
        "s",
    ),
    Chart("Size of adapters", "Of those that were published.", _quantiles("loraop_adapter_bytes"), "bytes"),
    Chart("Training pods", "Those that are asked for their progress.", {"pods": "sum(loraop_progress_pods)"}),
    Chart(
        "Questions to training pods",
        "By result.",
        {"{{result}}": _rate("loraop_progress_polls_total", "result")},
        "reqps",
    ),
)
SERVING = (
    Chart("LoRAAdapters", "By standing.", {"{{standing}}": "sum by (standing) (loraop_loraadapters)"}),
    Chart(
        "Pods that ask for adapters",
        "By state, summed over all adapters.",
        {"{{state}}": "sum by (state) (loraop_adapter_pods)"},
    ),
    Chart("Questions to agents", "By result.", {"{{result}}": _rate("loraop_agent_polls_total", "result")}, "reqps"),
    Chart("Rollouts that ended", "Per second.", {"{{result}}": _rate("loraop_rollouts_total", "result")}),
    Chart(
        "Duration of rollouts",
        "From a new version until every pod serves it.",
        _quantiles("loraop_rollout_seconds"),
        "s",
    ),
    Chart(
        "Adapters in pods",
        "By state, as the agents tell it.",
        {"{{state}}": "sum by (state) (lora_agent_adapter_info)"},
    ),
    Chart("Downloads", "By result.", {"{{result}}": _rate("lora_agent_downloads_total", "result")}),
    Chart("Downloaded", "All agents.", {"bytes": _total_rate("lora_agent_downloaded_bytes_total")}, "Bps"),
    Chart(
        "Loads into engines",
        "By result, and their mean time in seconds.",
        {
            "{{result}}": _rate("lora_agent_loads_total", "result"),
            "mean seconds": f"{_total_rate('lora_agent_load_seconds_sum')}"
            f" / {_total_rate('lora_agent_load_seconds_count')}",
        },
    ),
    Chart(
        "Engines",
        "How many answer, of how many agents.",
        {"answer": "sum(lora_agent_engine_up)", "agents": "count(lora_agent_engine_up)"},
    ),
    Chart("Restarts of engines", "In the last hour.", {"restarts": _last_hour("lora_agent_engine_restarts_total")}),
    Chart(
        "What agents refuse",
        "Versions that a probe refused in the last hour, and agents that cannot read what they are to serve.",
        {
            "probes": _last_hour("lora_agent_probe_failures_total"),
            "unreadable": "sum(lora_agent_desired_invalid)",
        },
    ),
)
OPERATOR = (
    Chart("Leaders", "1, unless nobody reconciles.", {"leaders": "sum(loraop_leader)"}, kind="stat"),
    Chart("Version", "Of each replica.", {"{{version}}": "count by (version) (loraop_build_info)"}, kind="stat"),
    Chart(
        "Oldest object in the queue",
        "It grows while the queue does not move.",
        {"age": "max(loraop_workqueue_oldest_seconds)"},
        "s",
        "stat",
    ),
    Chart(
        "Passes",
        "By kind and result.",
        {"{{kind}} {{result}}": _rate("loraop_reconcile_total", "kind, result")},
        "ops",
    ),
    Chart("Duration of passes", "All kinds.", _quantiles("loraop_reconcile_duration_seconds"), "s"),
    Chart("Wait for a worker", "In the queue.", _quantiles("loraop_workqueue_wait_seconds"), "s"),
    Chart(
        "Queue",
        "Objects that wait, that come in and that are tried again.",
        {
            "waiting": "sum(loraop_workqueue_depth)",
            "added per second": _total_rate("loraop_workqueue_adds_total"),
            "again per second": _total_rate("loraop_workqueue_retries_total"),
        },
    ),
    Chart(
        "Requests to the API server",
        "By verb and code.",
        {"{{verb}} {{code}}": _rate("loraop_api_requests_total", "verb, code")},
        "reqps",
    ),
    Chart("Duration of requests", "To the API server.", _quantiles("loraop_api_request_duration_seconds"), "s"),
    Chart(
        "Answers of the pod webhook",
        "By result; what is refused or an error does not start.",
        {"{{result}}": _rate("loraop_webhook_admissions_total", "result")},
        "reqps",
    ),
    Chart(
        "Duration of its answers",
        "The API server waits for 5 s.",
        _quantiles("loraop_webhook_admission_duration_seconds"),
        "s",
    ),
)
ROWS = {"Jobs": JOBS, "Serving": SERVING, "Operator": OPERATOR}


def grafana_dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "lora-operator",
        "title": "LoRA operator",
        "tags": ["lora-operator"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_variable()]},
        "annotations": {"list": []},
        "panels": _panels(),
    }


def _source_variable() -> Panel:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _panels() -> list[Panel]:
    found: list[Panel] = []
    top = 0
    for title, charts in ROWS.items():
        found.append({"id": len(found) + 1, **_row(title, top)})
        top += _ROW_HEIGHT
        for index, chart in enumerate(charts):
            row, column = divmod(index, _COLUMNS)
            place = {"x": column * _WIDTH, "y": top + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            found.append({"id": len(found) + 1, **_panel(chart), "gridPos": place})
        top += -(-len(charts) // _COLUMNS) * _HEIGHT
    return found


def _row(title: str, top: int) -> Panel:
    place = {"x": 0, "y": top, "w": _WIDTH * _COLUMNS, "h": _ROW_HEIGHT}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(chart: Chart) -> Panel:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
        for index, (legend, expression) in enumerate(chart.expressions.items())
    ]
    return {
        "type": chart.kind,
        "title": chart.title,
        "description": chart.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": chart.unit, "min": 0}, "overrides": []},
        "options": _options(chart.kind),
        "targets": targets,
    }


def _options(kind: str) -> Panel:
    if kind == "stat":
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area", "textMode": "value_and_name"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
