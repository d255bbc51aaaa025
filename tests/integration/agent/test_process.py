"""The agent as it runs in a pod: a real S3 server, an engine that answers as vLLM does, and every end it may meet."""

import hashlib
import json
import re
import signal
import time
from pathlib import Path

import pytest

from integration.agent.process import SECRET, AgentProcess
from lora_agent.store import Store
from lora_agent.transfer.protocol import StoreRecord
from lora_api.artifacts import FileEntry, digest_of
from lora_api.base import SecretReference
from lora_api.delivery import AdapterState
from lora_api.reasons import Reason
from lora_api.sources import Storage
from support.engines.running import Running
from support.engines.vllm import Vllm
from support.faulty_proxy import FaultyProxy
from support.s3server import S3Server
from support.wait import wait_for

RESIDENT_LIMIT_KIB = 60 * 1024


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket("agent")


def resident_kib(process: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in text.split()]


def test_from_bucket_to_engine_and_back(agent: AgentProcess, engine: Running[Vllm], bucket: str) -> None:
    first, second = agent.upload(bucket, "one", seed="one"), agent.upload(bucket, "two", seed="two")
    agent.desire(agent.wish(bucket, "one", first))
    running = agent.start()
    said = agent.wait_served(first)
    assert said.state is AdapterState.SERVED
    assert said.downloaded_bytes == said.total_bytes > 0
    assert said.probe is not None
    assert said.probe.effect
    wait_for("ready", lambda: agent.page("/ready")[0] == 200)

    agent.desire(agent.wish(bucket, "two", second))
    agent.wait_served(second)
    loaded = engine.posts("/v1/load_lora_adapter")
    assert loaded[-1]["lora_path"] == str(agent.adapters / ".store" / second.replace(":", "-"))

    agent.desire()
    wait_for("it is gone", lambda: agent.status().adapters == [])
    wait_for(
        "its files are removed", lambda: [each.name for each in (agent.adapters / ".store").iterdir()] == ["agent.json"]
    )
    assert 'lora_agent_downloads_total{result="success"} 2' in agent.page("/metrics")[1]

    resident = resident_kib(running.pid)
    print(f"resident: {resident} KiB")
    assert resident < RESIDENT_LIMIT_KIB
    secrets = (agent.s3.secret_key, agent.s3.access_key, "engine-secret-key", "Authorization", "AWS_")
    assert not any(secret in agent.logged() for secret in secrets)
    assert all("event" in json.loads(line) for line in agent.logged().splitlines())


def test_without_a_secret_the_pods_own_identity_is_used(agent: AgentProcess, s3: S3Server, bucket: str) -> None:
    agent.environment |= s3.environment
    digest = agent.upload(bucket, "one")
    agent.desire(agent.wish(bucket, "one", storage=Storage(endpoint=s3.endpoint, path_style=True)))
    agent.start()
    agent.wait_served(digest)


def test_the_keys_of_a_secret_are_not_mixed_with_those_of_the_pod(agent: AgentProcess, bucket: str) -> None:
    agent.environment |= {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_SESSION_TOKEN": "wrong"}
    digest = agent.upload(bucket, "one")
    agent.desire(agent.wish(bucket, "one"))
    agent.start()
    agent.wait_served(digest)


def test_each_trouble_is_said_by_its_meaning(agent: AgentProcess, s3: S3Server, bucket: str) -> None:
    agent.upload(bucket, "one")
    body = b"pickle"
    s3.client().put_object(Bucket=bucket, Key="bin/adapter_config.json", Body=b"{}")
    s3.client().put_object(Bucket=bucket, Key="bin/adapter_model.bin", Body=body)
    other = Storage(endpoint=s3.endpoint, path_style=True, credentials_secret_ref=SecretReference(name="missing"))
    dead = Storage(endpoint="http://127.0.0.1:1", path_style=True, credentials_secret_ref=SecretReference(name=SECRET))
    wishes = {
        "absent": (agent.wish(bucket, "nowhere"), Reason.INPUT_NOT_FOUND, "spec.source.uri"),
        "bucketless": (agent.wish("no-such-bucket-here", "one"), Reason.INPUT_NOT_FOUND, "spec.source.uri"),
        "pickled": (agent.wish(bucket, "bin"), Reason.NOT_AN_ADAPTER, "convert to safetensors"),
        "secretless": (agent.wish(bucket, "one", storage=other), Reason.SECRET_NOT_FOUND, "lora-operator.io/secrets"),
        "dead": (agent.wish(bucket, "one", storage=dead), Reason.SERVICE_UNAVAILABLE, "S3 did not answer"),
        "changed": (agent.wish(bucket, "one", f"sha256:{64 * '0'}"), Reason.DIGEST_MISMATCH, "the files have digest"),
    }
    agent.desire(
        *(each.model_copy(update={"name": name, "served_name": name}) for name, (each, _, _) in wishes.items())
    )
    agent.start()
    for name, (_, reason, words) in wishes.items():
        said = agent.wait_reason(reason, name)
        assert words in said.message
        assert said.served_digest == ""


def test_wrong_keys_are_no_permission_and_right_ones_help(agent: AgentProcess, s3: S3Server, bucket: str) -> None:
    digest = agent.upload(bucket, "one")
    agent.write_secret(s3.access_key, "wrong")
    agent.desire(agent.wish(bucket, "one"))
    agent.start()
    said = agent.wait_reason(Reason.NO_PERMISSION)
    assert not said.permanent
    agent.write_secret(s3.access_key, s3.secret_key)
    agent.desire(agent.wish(bucket, "one", digest))  # else it is tried again after half a minute
    agent.wait_served(digest)


def test_an_outage_of_s3_unloads_nothing(agent: AgentProcess, s3: S3Server, bucket: str) -> None:
    proxy = FaultyProxy.to(s3.endpoint)
    try:
        keys = SecretReference(name=SECRET)
        storage = Storage(endpoint=f"http://127.0.0.1:{proxy.port}", path_style=True, credentials_secret_ref=keys)
        first, second = agent.upload(bucket, "one", seed="one"), agent.upload(bucket, "two", seed="two")
        agent.desire(agent.wish(bucket, "one", first, storage=storage))
        agent.start()
        agent.wait_served(first)
        proxy.refuse()
        agent.desire(agent.wish(bucket, "two", second, storage=storage))
        said = agent.wait_reason(Reason.SERVICE_UNAVAILABLE)
        assert said.served_digest == first
        assert agent.page("/ready")[0] == 200
        proxy.allow()
        agent.wait_served(second)
    finally:
        proxy.close()


def test_an_engine_that_restarts_gets_its_adapter_again(
    agent: AgentProcess, engine: Running[Vllm], bucket: str
) -> None:
    digest = agent.upload(bucket, "one")
    agent.desire(agent.wish(bucket, "one", digest))
    agent.start()
    agent.wait_served(digest)
    engine.restart()
    began = time.monotonic()
    wait_for("it is loaded again", lambda: agent.status().engine.restarts == 1)
    agent.wait_served(digest)
    assert time.monotonic() - began < 20, "some 2 s; a busy machine takes longer"


@pytest.mark.parametrize("busy", [False, True])
def test_sigterm_ends_it_at_once_and_unloads_nothing(
    agent: AgentProcess, engine: Running[Vllm], s3: S3Server, bucket: str, busy: bool
) -> None:
    proxy = FaultyProxy.to(s3.endpoint)
    digest = agent.upload(bucket, "one")
    stuck = Storage(
        endpoint=f"http://127.0.0.1:{proxy.port}", path_style=True, credentials_secret_ref=SecretReference(name=SECRET)
    )
    slow = agent.wish(bucket, "one", f"sha256:{64 * '1'}", name="slow", served_name="slow", storage=stuck)
    agent.desire(agent.wish(bucket, "one", digest))
    running = agent.start()
    agent.wait_served(digest)
    if busy:
        proxy.block()
        agent.desire(agent.wish(bucket, "one", digest), slow)
        wait_for("a download", lambda: children(running.pid))
    programs = children(running.pid)
    assert agent.page("/ready")[0] == 200
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=5) == 0
    assert time.monotonic() - began < 4, "some 0.2 s"
    assert engine.posts("/v1/unload_lora_adapter")[-1]["lora_name"] != "bot"
    assert "bot" in engine.engine.loaded
    wait_for("no program is left", lambda: not any(alive(each) for each in programs))
    proxy.close()


def test_a_killed_agent_leaves_no_half_adapter(agent: AgentProcess, s3: S3Server, bucket: str) -> None:
    proxy = FaultyProxy.to(s3.endpoint)
    keys = SecretReference(name=SECRET)
    storage = Storage(endpoint=f"http://127.0.0.1:{proxy.port}", path_style=True, credentials_secret_ref=keys)
    digest = agent.upload(bucket, "one")
    agent.desire(agent.wish(bucket, "one", digest, storage=storage))
    proxy.block()
    running = agent.start()
    store = agent.adapters / ".store"
    wait_for("a half download", lambda: list(store.glob(".tmp-*")) and children(running.pid))
    programs = children(running.pid)
    agent.kill()
    wait_for("the program ends with the agent", lambda: not any(alive(each) for each in programs))
    assert not list(store.glob("sha256-*"))
    proxy.unblock()
    agent.start()
    agent.wait_served(digest)
    assert not list(store.glob(".tmp-*"))
    proxy.close()


def test_the_next_agent_trusts_only_what_it_can_verify(agent: AgentProcess, engine: Running[Vllm], bucket: str) -> None:
    digest = agent.upload(bucket, "one")
    agent.desire(agent.wish(bucket, "one", digest))
    agent.start()
    agent.wait_served(digest)
    agent.kill()
    weights = agent.adapters / ".store" / digest.replace(":", "-") / "adapter_model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + b"\0")
    agent.start()
    wait_for("it is whole again", lambda: weights.exists() and weights.read_bytes() == right)
    agent.wait_served(digest)
    assert "removed a damaged adapter" in agent.logged()


def test_the_pages_answer_while_files_are_hashed(agent: AgentProcess) -> None:
    store, size = Store(agent.adapters), 2**29
    folder = store.new_folder()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.truncate(size)
    zeros = hashlib.sha256()
    for _ in range(size // 2**24):
        zeros.update(bytes(2**24))
    files = [FileEntry(path="adapter_model.safetensors", size=size, sha256=zeros.hexdigest())]
    store.publish(folder, StoreRecord(digest=digest_of(files), files=files))
    agent.desire(agent.wish("bucket", "one", digest_of(files)))
    agent.start()
    waited = []
    while not agent.status().desired_digest:
        began = time.monotonic()
        code = agent.page("/started")[0]
        waited.append(time.monotonic() - began)
        assert code == 503 or agent.status().desired_digest, "nothing is trusted before it is hashed"
    assert waited, "the pages answer before everything is hashed"
    assert max(waited) < 2, "some milliseconds"
    wait_for("it is trusted", lambda: agent.page("/started")[0] == 200)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LORA_ENGINE", "", "LORA_ENGINE is not set"),
        ("LORA_ENGINE", "tgi2", "there is no such driver"),
        ("LORA_ENGINE_URL", "engine", "LORA_ENGINE_URL is no URL"),
        ("LORA_ENGINE_MAX_RANK", "many", "LORA_ENGINE_MAX_RANK: many"),
    ],
)
def test_wrong_settings_are_one_line(agent: AgentProcess, name: str, value: str, words: str) -> None:
    agent.environment[name] = value
    assert agent.run_to_its_end() == 64
    assert len(agent.logged().splitlines()) == 1
    assert words in agent.logged()


def alive(process: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
