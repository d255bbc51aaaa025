"""What the webhook answers, whatever arrives, and how its server and the process around it behave."""

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lora_api.delivery import Desired
from lora_operator.app.admission import Admission, NotAReviewError, Reviewer
from lora_operator.app.certificates import make_certificate
from lora_operator.app.config import read_config
from lora_operator.app.probes import Health
from lora_operator.app.webhook import GivenCertificate, Listen, serve_webhook
from lora_operator.domain.injection import InjectionSettings
from support.apiserver import free_port
from support.injection import labelled, patched

SETTINGS = InjectionSettings(agent_image="agent.example/agent:test")


class Adapters:
    """The LoRAAdapters of a cluster; counts the reads."""

    def __init__(self, fault: Exception | None = None, *, hangs: bool = False) -> None:
        self.reads: list[tuple[str, tuple[str, ...]]] = []
        self.fault = fault
        self.hangs = hangs

    async def read(self, namespace: str, names: Sequence[str]) -> list[dict[str, Any]]:
        self.reads.append((namespace, tuple(names)))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault:
            raise self.fault
        return []


def review(pod: Any, **request: Any) -> bytes:
    asked = {
        "uid": "7",
        "operation": "CREATE",
        "namespace": "team-a",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}
    ).encode()


def answer(body: bytes, adapters: Adapters | None = None, namespaces: Sequence[str] = ()) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        read = (adapters or Adapters()).read
        reviewer = Reviewer(read, lambda *_: Desired(), SETTINGS, namespaces, read_seconds=0.05)
        return await reviewer.answer(body)

    found = asyncio.run(ask())
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert found["response"]["uid"] == "7"
    return dict(found["response"])


def test_a_labelled_pod_gets_a_patch_after_one_read() -> None:
    adapters = Adapters()
    found = answer(review(labelled({})), adapters)
    assert (found["allowed"], found["patchType"]) == (True, "JSONPatch")
    after = patched(labelled({}), json.loads(base64.b64decode(found["patch"])))
    assert after["spec"]["initContainers"][0]["name"] == "lora-agent"
    assert "warnings" not in found
    assert adapters.reads == [("team-a", ("support-bot",))]


def test_what_could_not_be_done_is_a_warning_for_whoever_creates_the_pod() -> None:
    found = answer(review(labelled({}, command=["/start.sh"], args=[])))
    (warning,) = found["warnings"]
    assert warning.startswith("EngineFlagsMissing: the engine may lack what it needs")
    assert len(warning) <= 250


OTHERS: list[tuple[str, bytes]] = [
    ("no label", review(labelled({}) | {"metadata": {}})),
    ("an update", review(labelled({}), operation="UPDATE")),
    ("a subresource", review(labelled({}), subResource="eviction")),
    ("another kind", review(labelled({}), resource={"group": "apps", "resource": "deployments"})),
    ("no object", review(None)),
    ("no containers, which the API server refuses itself", review(labelled({}) | {"spec": {}})),
    ("a container without a name, too", review(labelled({}, name=""))),
]


@pytest.mark.parametrize(("name", "body"), OTHERS, ids=[each[0] for each in OTHERS])
def test_everything_else_is_let_through_unread_and_unchanged(name: str, body: bytes) -> None:
    adapters = Adapters()
    assert answer(body, adapters) == {"uid": "7", "allowed": True}, name
    assert adapters.reads == []


def test_a_refusal_is_a_sentence_for_the_author() -> None:
    found = answer(review(labelled({"lora-operator.io/adapters": "team-b/x"})))
    assert not found["allowed"]
    assert found["status"]["code"] == 403
    assert found["status"]["message"].startswith("annotation lora-operator.io/adapters: 'team-b/x' is no name")


@pytest.mark.parametrize(
    "adapters", [Adapters(OSError("away")), Adapters(hangs=True)], ids=["an API server that fails", "one that hangs"]
)
def test_without_the_adapters_the_pod_has_to_come_again(adapters: Adapters) -> None:
    found = answer(review(labelled({})), adapters)
    assert (found["allowed"], found["status"]["code"]) == (False, 503)
    assert found["status"]["message"].startswith("lora-operator could not read the LoRAAdapters of namespace team-a")


def test_an_error_of_our_own_is_a_refusal_and_says_nothing_of_the_pod(caplog: pytest.LogCaptureFixture) -> None:
    pod = labelled({}, env=[{"name": "VLLM_API_KEY", "value": "very-secret"}], ports=[{"containerPort": "very-secret"}])
    with caplog.at_level(logging.DEBUG):
        found = answer(review(pod))
    assert (found["allowed"], found["status"]["code"]) == (False, 500)
    assert found["status"]["message"] == (
        "lora-operator could not prepare the pod (ValueError); see the log of the operator"
    )
    assert "very-secret" not in caplog.text
    assert "engines.py" in caplog.text, "the log says where"


def test_a_namespace_that_is_not_served_is_told_so() -> None:
    assert answer(review(labelled({})), namespaces=["team-a"])["allowed"]
    found = answer(review(labelled({})), namespaces=["team-b"])
    assert "does not serve namespace team-a" in found["status"]["message"]


NONSENSE = [b"", b"\xff", b"[]", b"{}", b'"x"', b"[" * 100_000, review({}).replace(b"/v1", b"/v1beta1")]


@pytest.mark.parametrize("body", NONSENSE, ids=[repr(each[:20]) for each in NONSENSE])
def test_what_is_no_review_has_no_answer(body: bytes) -> None:
    with pytest.raises(NotAReviewError):
        answer(body)


@pytest.mark.parametrize("request_", [None, [], {}, {"uid": 1}])
def test_a_review_without_a_request_has_no_answer(request_: Any) -> None:
    whole = json.loads(review({})) | {"request": request_}
    with pytest.raises(NotAReviewError):
        answer(json.dumps(whole).encode())


def injected() -> dict[str, Any]:
    """Return a pod that has been here before."""
    return patched(labelled({}), json.loads(base64.b64decode(answer(review(labelled({})))["patch"])))


OBSERVED: list[tuple[str, bytes, Adapters, Admission]] = [
    ("a pod that is patched", review(labelled({})), Adapters(), Admission.INJECTED),
    ("one that asks for nothing", review(labelled({}) | {"metadata": {}}), Adapters(), Admission.UNCHANGED),
    ("one that has it already", review(injected()), Adapters(), Admission.UNCHANGED),
    ("a wrong name", review(labelled({"lora-operator.io/adapters": "team-b/x"})), Adapters(), Admission.REFUSED),
    ("no answer of the API server", review(labelled({})), Adapters(OSError("away")), Admission.ERROR),
    ("a defect", review(labelled({}, ports=[{"containerPort": "x"}])), Adapters(), Admission.ERROR),
    ("nonsense", b"nonsense", Adapters(), Admission.ERROR),
]


@pytest.mark.parametrize(("name", "body", "adapters", "expected"), OBSERVED, ids=[each[0] for each in OBSERVED])
def test_what_became_of_a_request_is_told_once_with_its_time(
    name: str, body: bytes, adapters: Adapters, expected: Admission
) -> None:
    told: list[tuple[Admission, float]] = []
    times = iter([10.0, 10.25])

    async def ask() -> None:
        reviewer = Reviewer(
            adapters.read,
            lambda *_: Desired(),
            SETTINGS,
            observer=lambda admission, seconds: told.append((admission, seconds)),
            clock=lambda: next(times),
        )
        with contextlib.suppress(NotAReviewError):
            await reviewer.answer(body)

    asyncio.run(ask())
    assert told == [(expected, 0.25)], name


async def served(folder: Path, scenario: Any) -> None:
    """Serve the webhook, and run a scenario with a client that trusts it."""
    from datetime import UTC, datetime

    certificate = make_certificate(["127.0.0.1"], "test", datetime.now(UTC))
    (folder / "tls.crt").write_bytes(certificate.chain)
    (folder / "tls.key").write_bytes(certificate.key)
    trust = ssl.create_default_context(cadata=certificate.authority.decode())
    port, health = free_port(), Health()
    health.reached()
    reviewer = Reviewer(Adapters().read, lambda *_: Desired(), SETTINGS)
    listen = Listen("127.0.0.1", port, drain_seconds=0)
    async with (
        serve_webhook(reviewer, GivenCertificate(folder), health, listen),
        aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=aiohttp.TCPConnector(ssl=trust)) as session,
    ):
        await scenario(session, health)


def test_the_server_answers_over_tls_and_bounds_what_it_reads(tmp_path: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, health: Health) -> None:
        async with session.post("/inject", data=review(labelled({}))) as found:
            assert (found.status, (await found.json())["response"]["allowed"]) == (200, True)
        async with session.post("/inject", data=b"x" * (3 * 1024 * 1024 + 1)) as found:
            assert found.status == 413
        async with session.post("/inject", data=b"nonsense") as found:
            assert (found.status, await found.text()) == (400, "the body is no JSON\n")
        async with session.get("/inject") as found:
            assert found.status == 405
        assert health.is_ready

    asyncio.run(served(tmp_path, scenario))


def test_a_replica_is_not_ready_before_its_webhook_is() -> None:
    health = Health()
    health.await_part("webhook")
    health.reached()
    assert not health.is_ready
    health.has_part("webhook")
    assert health.is_ready
    health.ready = False
    assert not health.is_ready, "it is about to end"


IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "LORA_TRAINER_IMAGE": "t"}
AGENT = {"LORA_AGENT_IMAGE": "a"}
SERVED: list[tuple[list[str], dict[str, str], bool]] = [
    ([], IN_CLUSTER | AGENT, True),
    ([], IN_CLUSTER, False),
    ([], {"LORA_TRAINER_IMAGE": "t"} | AGENT, False),
    (["--webhook", "on"], {"LORA_TRAINER_IMAGE": "t"} | AGENT, True),
    (["--webhook", "off"], IN_CLUSTER | AGENT, False),
]


@pytest.mark.parametrize(("flags", "environment", "expected"), SERVED)
def test_when_the_webhook_is_served(flags: list[str], environment: dict[str, str], expected: bool) -> None:
    assert (read_config(flags, environment).webhook is not None) == expected


def test_the_settings_of_the_webhook() -> None:
    flags = ["--webhook-port", "1", "--webhook-certificates", "/certs", "--agent-image", "b"]
    found = read_config(flags, IN_CLUSTER | AGENT | {"LORA_WEBHOOK_SERVICE": "other"}).webhook
    assert found is not None
    assert (found.agent_image, found.port, found.service, found.certificates) == ("b", 1, "other", Path("/certs"))


def test_a_webhook_without_an_agent_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_config(["--webhook", "on"], IN_CLUSTER)
    assert ended.value.code == 2
    assert "no agent image: set LORA_AGENT_IMAGE or --agent-image, or --webhook off" in capsys.readouterr().err
