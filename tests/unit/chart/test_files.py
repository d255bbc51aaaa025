"""The files of the chart: values, schema, table, alerts and dashboard say the same as the code and the pages."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.chart import TABLE_BEGIN, TABLE_END, with_table
from generate.chart_values import read_values, values_schema, values_table
from generate.grafana import ROWS, grafana_dashboard
from generate.install import VERSION
from lora_agent.metrics import Metrics as AgentMetrics
from lora_agent.metrics import render
from lora_api.delivery import AgentStatus, EngineStatus
from lora_operator.app.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "lora-operator"
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
OBSERVABILITY = (ROOT / "docs" / "observability.md").read_text()
SUFFIXES = ("_bucket", "_count", "_sum", "_total")


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Give every value beside its schema, and fail where one of them knows a name that the other does not."""
    assert list(values) == list(schema["properties"]), path
    for name, value in values.items():
        below = schema["properties"][name]
        if "properties" in below and "default" not in below:
            yield from leaves(value, below, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value, below


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every schema of an object with named fields, wherever it lies."""
    if isinstance(schema, list):
        for each in schema:
            yield from objects(each, path)
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            yield path, schema
        for name, each in schema.items():
            yield from objects(each, f"{path}/{name}")


def test_the_schema_has_the_values_and_their_defaults() -> None:
    found = list(leaves(yaml.safe_load(VALUES), SCHEMA))
    assert len(found) > 60
    for path, value, schema in found:
        assert schema["default"] == value, path
        assert schema["description"], path


def test_the_schema_refuses_unknown_names_everywhere() -> None:
    found = dict(objects(SCHEMA))
    assert len(found) > 50
    assert [path for path, each in found.items() if each.get("additionalProperties") is not False] == []
    free = [
        path
        for path, value, schema in leaves(yaml.safe_load(VALUES), SCHEMA)
        if isinstance(value, dict) and not schema.keys() & {"additionalProperties", "$ref"}
    ]
    assert free == [".global"], "what belongs to a parent chart may be anything"


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    references = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(SCHEMA)))
    assert references == SCHEMA["$defs"].keys(), "and what nothing refers to is not carried along"


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        read_values("a:\n  b: 1\n")


def test_how_a_comment_is_read() -> None:
    text = """\
# Head of the file.

# About
# it.
a: 1
# Of a type.
# @schema {$ref: Toleration}
b: {}
c:
  # Yes.
  d: x
"""
    found = {".".join(each.path): (each.description, each.default, each.schema) for each in read_values(text)}
    assert found == {
        "a": ("About it.", 1, None),
        "b": ("Of a type.", {}, {"$ref": "Toleration"}),
        "c": ("", {"d": "x"}, None),
        "c.d": ("Yes.", "x", None),
    }
    schema = values_schema(text)
    assert schema["properties"]["b"]["$ref"] == "#/$defs/Toleration"
    assert schema["$defs"]["Toleration"]["properties"]["tolerationSeconds"] == {"type": "integer"}
    assert schema["properties"]["c"]["additionalProperties"] is False


def test_the_table_names_every_value_once() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert rows == [path.removeprefix(".") for path, _, _ in leaves(yaml.safe_load(VALUES), SCHEMA)]
    assert values_table("# One | two.\na: 1\n").endswith("| `a` | One \\| two. | `1` |")


def test_the_table_replaces_what_is_between_its_marks() -> None:
    assert with_table(f"a\n{TABLE_BEGIN}old\n{TABLE_END}b\n", "new") == f"a\n{TABLE_BEGIN}\nnew\n\n{TABLE_END}b\n"
    with pytest.raises(ValueError, match="lost the marks"):
        with_table(f"a\n{TABLE_END}", "new")


def test_chart_and_operator_have_one_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == VERSION


def test_the_alerts_are_those_of_the_page() -> None:
    table = OBSERVABILITY.partition("Expressions for alerts:")[2].partition("\n## ")[0]
    said = [re.sub(r"\\\|", "|", each) for each in re.findall(r"\| `([^`]+)` \|$", table, re.MULTILINE)]
    assert len(said) == len(ALERTS)
    for expression, alert in zip(said, ALERTS, strict=True):
        assert alert["expr"] == expression or alert["expr"].startswith(f"{expression} or absent("), alert["alert"]
        assert alert["for"]
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert alert["annotations"].keys() == {"summary", "description"}


def test_alerts_can_be_left_out_by_their_names() -> None:
    assert SCHEMA["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"] == [
        each["alert"] for each in ALERTS
    ]


def served_names() -> set[str]:
    """Return the names of all metrics of operator and agent, without the endings of counters and histograms."""
    operator = {each.name for each in Metrics().registry.collect()}
    status = AgentStatus(pod_uid="uid", engine=EngineStatus(kind="vllm", reachable=True))
    agent = set(re.findall(r"^# TYPE (\w+)", render(AgentMetrics(), status), re.MULTILINE))
    return {base_name(each) for each in operator | agent}


def base_name(name: str) -> str:
    return next((name.removesuffix(each) for each in SUFFIXES if name.endswith(each)), name)


def names_in(expressions: Iterator[str]) -> set[str]:
    return {base_name(each) for text in expressions for each in re.findall(r"\b(?:loraop|lora_agent)_\w+", text)}


def test_dashboard_and_alerts_use_metrics_that_are_served() -> None:
    shown = names_in(each for charts in ROWS.values() for chart in charts for each in chart.expressions.values())
    assert shown - served_names() == set()
    assert names_in(each["expr"] for each in ALERTS) - served_names() == set()
    own = {each for each in served_names() if each.startswith(("loraop_", "lora_agent_"))}
    assert own - shown == set(), "every metric is shown somewhere"


def test_labels_in_the_dashboard_are_labels_of_the_metric() -> None:
    """A legend such as {{phase}} needs a sum or count by that label."""
    for charts in ROWS.values():
        for chart in charts:
            for legend, expression in chart.expressions.items():
                for label in re.findall(r"{{(\w+)}}", legend):
                    (grouped,) = re.findall(r"(?:sum|count) by \(([\w, ]+)\)", expression)
                    assert label in grouped.split(", "), chart.title


def test_the_panels_have_places_of_their_own() -> None:
    panels = grafana_dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert json.loads((CHART / "files" / "grafana-dashboard.json").read_text()) == grafana_dashboard()
