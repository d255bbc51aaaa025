"""The commands that read S3: logs and measurements of a run whose pods are gone, and adapters to the last byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.cli.conftest import Cli
from lora_api.lorajob import LoRAJobSpec
from support.objects import Objects
from support.s3server import S3Server
from support.samples import lorajob
from unit.cli.artifacts import DOCUMENTS, FILES, SPEC, entry, manifest_of, report_of

LOG = [
    '{"time": "2026-01-02T03:04:05.000+00:00", "level": "info", "message": "started", "command": "preflight"}',
    '{"time": "2026-01-02T03:05:05.000+00:00", "level": "info", "message": "started", "command": "train"}',
    '{"time": "2026-01-02T03:05:06.000+00:00", "level": "info", "message": "step", "step": 1, "loss": 2.5}',
]
METRICS = [{"step": step, "loss": 3 / step, "learningRate": 1e-4 * step} for step in range(1, 31)]


def storage(server: S3Server) -> dict[str, Any]:
    return {"endpoint": server.endpoint, "pathStyle": True, "credentialsSecretRef": {"name": "keys-of-the-pods"}}


def put(server: S3Server, bucket: str, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        server.client().put_object(Bucket=bucket, Key=path, Body=content)


@pytest.fixture
def job(cluster: Objects, s3_server: S3Server, bucket: str) -> str:
    """Make a LoRAJob whose pods are gone and whose records are in S3; return the folder of its records."""
    cluster.create(lorajob("bot", output={"uri": f"s3://{bucket}/out"}, storage=storage(s3_server)))
    curve = [{"step": 1, "loss": 3.0}, {"step": 30, "loss": 0.1}]
    status = {"observedGeneration": 1, "run": 2, "completionTime": "2026-01-02T04:00:00Z", "lossCurve": curve}
    cluster.set_status("LoRAJob", "bot", status)
    folder = f"out/{cluster.namespace}/bot/runs/2"
    metrics = "".join(f"{json.dumps(each)}\n" for each in METRICS) + '{"step": 31, "lo'  # cut off in the middle
    put(
        s3_server, bucket, {f"{folder}/log.jsonl": "\n".join(LOG).encode(), f"{folder}/metrics.jsonl": metrics.encode()}
    )
    return folder


def test_the_log_is_read_from_s3_when_the_pods_are_gone(cli: Cli, job: str) -> None:
    said = cli("logs", "bot")
    assert said.code == 0
    assert said.out.splitlines()[-1] == "03:05:06 step step=1 loss=2.5"
    assert "the pods of run 2 are gone" in said.err
    assert cli("logs", "bot", "--raw", "--stage", "train").out.splitlines() == LOG[1:]


def test_a_stage_that_is_not_in_the_log_is_said(cli: Cli, job: str, s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, {f"{job}/log.jsonl": LOG[0].encode()})
    said = cli("logs", "bot", "--stage", "train")
    assert (said.code, said.out) == (1, "")
    assert "run 2 has no log of stage train; leave out --stage to see all of it" in said.err


def test_a_run_that_is_not_there(cli: Cli, job: str) -> None:
    assert "there is no run 3 of bot" in cli("logs", "bot", "--run", "3").err
    gone = cli("logs", "bot", "--run", "1")
    assert (gone.code, gone.out) == (1, "")
    assert "runs/1/log.jsonl is not there" in gone.err


def test_a_picture_of_the_measurements(cli: Cli, job: str, tmp_path: Path) -> None:
    said = cli("plot", "bot", "-o", str(tmp_path / "a.png"))
    assert said.code == 0, said.err
    assert "30 points from s3://" in said.out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_without_s3_the_picture_is_of_the_status(cli: Cli, job: str, tmp_path: Path) -> None:
    said = cli("plot", "bot", "-o", str(tmp_path / "a.svg"), "--endpoint", "http://127.0.0.1:1", "--output", "json")
    assert said.code == 0
    assert json.loads(said.out)["source"] == "status.lossCurve"
    assert "drawing status.lossCurve instead" in said.err


def test_wrong_keys_are_said_in_one_line(cli: Cli, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    said = cli("logs", "bot")
    assert said.code == 1
    assert "your AWS credentials may not read it" in said.err
    assert "wrong" not in said.err


Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def publish(cluster: Objects, s3_server: S3Server, bucket: str) -> Publish:
    """Return how an adapter is published and its LoRAAdapter made; it returns the LoRAAdapter."""

    def published(spec: dict[str, Any] = SPEC, **changes: Any) -> dict[str, Any]:
        spec = spec | {"output": {"uri": f"s3://{bucket}/out"}}
        manifest = manifest_of([entry(path, content) for path, content in FILES.items()], spec, **changes)
        folder = f"out/team-a/bot/adapters/{manifest.digest.replace(':', '-')}"
        files = {**FILES, **DOCUMENTS, "manifest.json": manifest.encode()}
        put(s3_server, bucket, {f"{folder}/{path}": content for path, content in files.items()})
        put(s3_server, bucket, {"out/team-a/bot/runs/2/report.json": json.dumps(report_of(spec)).encode()})
        source = {"uri": f"s3://{bucket}/{folder}", "digest": manifest.digest, "storage": storage(s3_server)}
        head = {"apiVersion": "lora-operator.io/v1alpha1", "kind": "LoRAAdapter", "metadata": {"name": "bot"}}
        return cluster.create(head | {"spec": {"baseModel": {"name": "owner/base"}, "source": source}})

    return published


def test_every_byte_is_checked_in_s3(cli: Cli, publish: Publish, s3_server: S3Server, bucket: str) -> None:
    adapter = publish()
    whole = cli("verify", "bot")
    assert (whole.code, whole.out.count("ok ")) == (0, 4)
    uri = adapter["spec"]["source"]["uri"]
    assert cli("verify", uri, "--endpoint", s3_server.endpoint).code == 0
    path = f"{uri.removeprefix(f's3://{bucket}/')}/adapter_model.safetensors"
    put(s3_server, bucket, {path: b"v" * 3_000_000})
    damaged = cli("verify", "bot")
    assert damaged.code == 1
    assert "FAULT  adapter_model.safetensors: has SHA-256" in damaged.out


EVERYTHING = yaml.safe_load((Path(__file__).parents[2] / "golden" / "everything" / "lorajob.yaml").read_text())["spec"]
WITH_SECRETS = SPEC | {
    "baseModel": {"uri": "hf://owner/base", "tokenSecretRef": {"name": "hub-token"}},
    "dataset": {"train": {"uri": "https://files.example/a.jsonl?signature=secret"}},
}


@pytest.mark.parametrize("spec", [SPEC, EVERYTHING, WITH_SECRETS])
def test_the_job_that_trains_it_again_is_taken_by_the_api_server(
    cli: Cli, cluster: Objects, publish: Publish, tmp_path: Path, spec: dict[str, Any]
) -> None:
    publish(spec)
    said = cli("reproduce", "bot")
    assert said.code == 0
    assert [word for word in ("secret", "hub-token") if word in said.out.replace("may be secret", "")] == []
    path = tmp_path / "again.yaml"
    path.write_text(said.out.replace("namespace: team-a", f"namespace: {cluster.namespace}"))
    submitted = cli("submit", "-f", str(path))
    assert (submitted.code, submitted.err) == (0, "")
    job = cluster.get("LoRAJob", "bot")
    assert job is not None
    assert job["spec"]["storage"]["credentialsSecretRef"] == {"name": "keys-of-the-pods"}
    asked, trained = LoRAJobSpec.model_validate(job["spec"]), LoRAJobSpec.model_validate(spec)
    assert (asked.lora, asked.training, asked.evaluation) == (trained.lora, trained.training, trained.evaluation)


def test_without_a_request_in_the_manifest_the_job_is_proved_by_the_report(cli: Cli, publish: Publish) -> None:
    publish(request=None)
    said = cli("reproduce", "bot")
    assert said.code == 0
    assert "# the manifest is of an earlier trainer and holds no request" in said.out
    assert "# the digest of the spec in report.json proves that this is what was trained\n" in said.out
    spec = yaml.safe_load(said.out)["spec"]
    assert spec["storage"]["credentialsSecretRef"] == {"name": "keys-of-the-pods"}
    assert spec["dataset"]["validation"] == {"fraction": 0.05}
    assert LoRAJobSpec.model_validate(spec).lora.rank == 8
