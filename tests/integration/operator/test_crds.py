"""The generated CRDs in a real API server: what it takes, what it refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer
from support.contradictory import CASES, SOUND, Case
from support.objects import Objects
from support.samples import lorajob

GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"


def apply(cluster: Objects, document: dict[str, Any]) -> str:
    """Return what kubectl says to a document; nothing is stored."""
    done = cluster.server.run_kubectl(
        "apply", "-n", cluster.namespace, "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(document)
    )
    return done.stdout if done.returncode == 0 else done.stderr


def test_the_shortest_job_is_taken(cluster: Objects) -> None:
    assert "created" in apply(cluster, lorajob())


def test_short_names_and_the_category_work(server: ApiServer, cluster: Objects) -> None:
    cluster.create(lorajob("short"))
    for word in ("lj", "lora", "lorajobs"):
        found = server.run_kubectl("get", word, "-n", cluster.namespace)
        assert "short" in found.stdout, found.stderr
    assert found.stdout.split()[:7] == ["NAME", "PHASE", "REASON", "PROGRESS", "LOSS", "ADAPTER", "AGE"]
    wide = server.run_kubectl("get", "lj", "short", "-n", cluster.namespace, "-o", "wide").stdout
    assert [
        column
        for column in ("PHASE", "REASON", "PROGRESS", "LOSS", "ADAPTER", "BASE", "ETA", "CHECKPOINT")
        if column not in wide
    ] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainng": {}}, ["trainng"]),
        ({"lora": {"rank": 0}}, ["spec.lora.rank", "1"]),
        ({"baseModel": {"uri": "ftp://x/y"}}, ["spec.baseModel.uri", "s3://bucket/path"]),
        ({"output": {"uri": "hf://a/b"}}, ["spec.output.uri", "s3://bucket or s3://bucket/prefix"]),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else None,
)
def test_a_wrong_job_is_refused_with_field_and_fix(cluster: Objects, change: dict[str, Any], words: list[str]) -> None:
    answer = apply(cluster, lorajob(**change))
    assert "created" not in answer
    for word in words:
        assert word in answer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_job_that_contradicts_itself_is_refused_with_the_fix(cluster: Objects, case: Case) -> None:
    answer = apply(cluster, lorajob(**case.change))
    assert "created" not in answer
    assert case.server in answer


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_a_job_that_can_be_met_is_taken(cluster: Objects, change: dict[str, Any]) -> None:
    assert "created" in apply(cluster, lorajob(**change))


def test_a_name_that_would_make_too_long_children_is_refused(cluster: Objects) -> None:
    assert "at most 45" in apply(cluster, lorajob("a" * 46))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_api_server_takes_every_golden_file(cluster: Objects, path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    if path.stem == "status":
        document = lorajob() | {"status": document}
    document["metadata"].pop("namespace", None)
    answer = apply(cluster, document)
    assert "created" in answer, answer


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_takes_every_sample(cluster: Objects, path: Path) -> None:
    answer = apply(cluster, yaml.safe_load(path.read_text()))
    assert "created" in answer, answer


def test_a_status_reads_back_as_it_was_written(cluster: Objects) -> None:
    written = yaml.safe_load((GOLDEN / "minimal" / "status.yaml").read_text())
    cluster.create(lorajob())
    cluster.set_status("LoRAJob", "support-bot", written)
    assert cluster.wait("LoRAJob", "support-bot")["status"] == written
