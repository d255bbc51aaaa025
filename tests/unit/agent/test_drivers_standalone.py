"""The fake vLLM as a pod runs it: a program of one file, with vLLM's own flags."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_agent.drivers.base import Driver, ErrorKind
from support.engines import standalone
from support.engines.adapters import store_adapter
from support.engines.contract import fails
from support.engines.driving import drive

FILE = Path(standalone.__file__)


@contextmanager
def program(*flags: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run it on a free port, isolated from all packages, and give its URL."""
    command = [sys.executable, "-I", "-S", str(FILE), *flags, "--host", "127.0.0.1", "--port", "0"]
    settings = {"PATH": os.environ["PATH"], **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            yield f"http://127.0.0.1:{line.split()[-1] if line else 0}", process
        finally:
            process.kill()


def chat(url: str, model: str, key: str | None = None) -> tuple[int, Any]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/chat/completions", body, headers)) as answer:
            return answer.status, json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_chat_tells_which_version_answers(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    flags = ("serve", "team/base", "--dtype", "bfloat16", "--enforce-eager", "--enable-lora", "--max-lora-rank", "16")
    with program(*flags, VLLM_ALLOW_RUNTIME_LORA_UPDATING="true") as (url, process):
        assert chat(url, "team/base") == (200, "team/base")
        assert chat(url, "a")[0] == 404
        drive("vllm", url, lambda driver: driver.load("a", one, None))
        status, first = chat(url, "a")
        drive("vllm", url, lambda driver: driver.load("a", two, str(one)))
        assert (status, first) == (200, f"sha256:{standalone.read_adapter(str(one), 16).sha256}")
        assert chat(url, "a") == (200, f"sha256:{standalone.read_adapter(str(two), 16).sha256}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_flags_and_environment(tmp_path: Path) -> None:
    path, large = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two", rank=32)
    with program("--served-model-name", "base", "--api-key", "k", "--lora-modules", f"mine={path}") as (url, _):

        async def use(driver: Driver) -> None:
            listing = await driver.list()
            assert listing.adapters == {"mine": str(path)}
            assert "base" in listing.bases
            await fails(driver.load("a", path, None), ErrorKind.NOT_ENABLED)

        drive("vllm", url, use, key="k")
        assert chat(url, "base")[0] == 401
        assert chat(url, "base", "k") == (200, "base")
    with program("--enable-lora", "--max-lora-rank=32", VLLM_ALLOW_RUNTIME_LORA_UPDATING="1") as (url, _):
        drive("vllm", url, lambda driver: driver.load("a", large, None))
    with program(VLLM_ALLOW_RUNTIME_LORA_UPDATING="1") as (url, _):
        drive("vllm", url, lambda driver: fails(driver.load("a", path, None), ErrorKind.NOT_ENABLED))


def test_a_bad_adapter_on_the_command_line_keeps_it_from_starting(tmp_path: Path) -> None:
    path = store_adapter(tmp_path, cut=4)
    modules = json.dumps({"name": "mine", "path": str(path)})
    with program("--lora-modules", modules) as (_, process):
        assert process.wait(10) != 0


def test_a_version_that_fell_out_of_the_cache_is_read_again(tmp_path: Path) -> None:
    """Why the files of a served version must stay."""
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    engine = standalone.Vllm(max_cpu_loras=1)
    engine.load("a", str(one))
    engine.load("b", str(two))
    (one / "adapter_config.json").unlink()
    status, _ = engine.answer("POST", "/v1/chat/completions", None, {"model": "a"})
    assert status == 500


@pytest.mark.parametrize("body", [None, [], "x"])
def test_a_body_that_is_no_object(body: Any) -> None:
    assert standalone.Vllm().answer("POST", "/v1/load_lora_adapter", None, body)[0] == 400


def test_it_is_one_file_of_the_standard_library() -> None:
    lines = FILE.read_text().splitlines()
    modules = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert modules <= sys.stdlib_module_names
    assert len(FILE.read_bytes()) < 100_000, "it has to fit into a ConfigMap"
