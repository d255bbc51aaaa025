"""SGLang: unloads that last, changes against clients who ask all the time, and refusals told by their words."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_agent.drivers.base import Driver, ErrorKind, ProbeUnsupportedError
from support.engines.adapters import store_adapter
from support.engines.contract import fails
from support.engines.driving import drive
from support.engines.running import Running, running
from support.engines.sglang import Sglang
from support.engines.standalone import LoadError


@pytest.fixture
def sglang() -> Iterator[Running[Sglang]]:
    with running(Sglang()) as server:
        yield server


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.", ErrorKind.NOT_ENABLED),
        ("dp_size must be 1 for dynamic lora loading", ErrorKind.NOT_ENABLED),
        ("LoRA a is incompatible with the current LoRA memory pool configuration", ErrorKind.REFUSED),
        ("SGLang doesn't support DoRA", ErrorKind.REFUSED),
        ("the adapter would add tokens to the vocabulary", ErrorKind.REFUSED),
        ("[Errno 2] No such file or directory: '/x/adapter_config.json'", ErrorKind.NOT_FOUND),
        ("Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/x'", ErrorKind.NOT_FOUND),
        ("LoRA a is left after an incomplete unload", ErrorKind.BUSY),
        ("CUDA out of memory", ErrorKind.BUSY),
    ],
)
def test_a_refused_load(sglang: Running[Sglang], tmp_path: Path, message: str, expected: ErrorKind) -> None:
    sglang.replies = [(400, {"success": False, "error_message": message, "loaded_adapters": {}})]
    path = store_adapter(tmp_path)
    said = drive("sglang", sglang.url, lambda driver: fails(driver.load("a", path, None), expected), folder=tmp_path)
    assert said == message


def test_the_listing_follows_the_links(sglang: Running[Sglang], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def load_and_look(driver: Driver) -> None:
        await driver.load("a", path, None)
        listing = await driver.list()
        assert listing.adapters == {"a": str(path)}
        assert listing.bases == ("base-model", "/models/base-model")
        assert listing.version == "0.5.23"

    drive("sglang", sglang.url, load_and_look, folder=tmp_path)
    assert sglang.engine.registered == {"a": str(tmp_path / ".links" / "a" / path.name)}


def test_paths_that_are_not_ours_are_shown_as_they_are(sglang: Running[Sglang], tmp_path: Path) -> None:
    sglang.engine.registered = {"mine": "/models/mine", "left": str(tmp_path / ".links" / "left" / "sha256-1")}

    async def look(driver: Driver) -> None:
        shown = (await driver.list()).adapters
        assert shown == {"mine": "/models/mine", "left": str(tmp_path / ".store" / "sha256-1")}

    drive("sglang", sglang.url, look, folder=tmp_path)


def test_after_an_unload_no_request_brings_the_adapter_back(sglang: Running[Sglang], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def load_and_unload(driver: Driver) -> None:
        await driver.load("a", path, None)
        assert sglang.engine.answer("POST", "/v1/chat/completions", None, {"model": "base-model:a"})[0] == 200
        await driver.unload("a", path)
        await fails(driver.next_tokens("a", path, "Hello", 3), ErrorKind.NOT_FOUND)

    drive("sglang", sglang.url, load_and_unload, folder=tmp_path)
    status, _ = sglang.engine.answer("POST", "/v1/chat/completions", None, {"model": "base-model:a"})
    assert status == 400
    assert sglang.engine.registered == {}
    assert path.is_dir(), "the version itself stays, for other names and for a rollback"


def test_two_names_of_one_version_are_unloaded_apart(sglang: Running[Sglang], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def load_two_and_unload_one(driver: Driver) -> None:
        await driver.load("staged", path, None)
        await driver.load("a", path, None)
        await driver.unload("staged", path)
        assert (await driver.list()).adapters == {"a": str(path)}

    drive("sglang", sglang.url, load_two_and_unload_one, folder=tmp_path)
    link = Path(sglang.engine.registered["a"])
    assert link.resolve() == path


@pytest.mark.parametrize("late_requests", [0, 1, 2])
def test_a_change_wins_against_late_requests(sglang: Running[Sglang], tmp_path: Path, late_requests: int) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def change(driver: Driver) -> None:
        await driver.load("a", one, None)
        sglang.engine.late_requests = late_requests
        await driver.load("a", two, str(one))
        assert (await driver.list()).adapters == {"a": str(two)}

    drive("sglang", sglang.url, change, folder=tmp_path)


def test_a_change_that_never_wins_is_told_as_busy(sglang: Running[Sglang], tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def change(driver: Driver) -> None:
        await driver.load("a", one, None)
        sglang.engine.late_requests = 100
        assert "keep loading" in await fails(driver.load("a", two, str(one)), ErrorKind.BUSY)
        assert "keep loading" in await fails(driver.unload("a", one), ErrorKind.BUSY)
        assert (await driver.list()).adapters == {"a": str(one)}

    drive("sglang", sglang.url, change, folder=tmp_path)


def test_a_bad_change_is_followed_by_the_version_before(sglang: Running[Sglang], tmp_path: Path) -> None:
    one, bad = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two", rank=64)

    async def change(driver: Driver) -> None:
        await driver.load("a", one, None)
        assert "memory pool" in await fails(driver.load("a", bad, str(one)), ErrorKind.REFUSED)
        assert (await driver.list()).adapters == {"a": str(one)}
        assert await driver.next_tokens("a", one, "Hello", 3)

    drive("sglang", sglang.url, change, folder=tmp_path)


def test_several_data_parallel_ranks_are_told(sglang: Running[Sglang], tmp_path: Path) -> None:
    sglang.engine.dp_size = 2
    path = store_adapter(tmp_path)
    drive("sglang", sglang.url, lambda driver: fails(driver.load("a", path, None), ErrorKind.REFUSED), folder=tmp_path)


def test_an_engine_without_lora(sglang: Running[Sglang], tmp_path: Path) -> None:
    sglang.engine.enable_lora = False
    path = store_adapter(tmp_path)

    async def use(driver: Driver) -> None:
        assert "--enable-lora" in await fails(driver.load("a", path, None), ErrorKind.NOT_ENABLED)
        await driver.unload("a", path)

    drive("sglang", sglang.url, use, folder=tmp_path)


def test_the_key_is_sent(tmp_path: Path) -> None:
    with running(Sglang(api_key="k")) as server:
        drive("sglang", server.url, lambda driver: fails(driver.list(), ErrorKind.UNAUTHORIZED), folder=tmp_path)
        drive("sglang", server.url, lambda driver: driver.list(), key="k", folder=tmp_path)


def test_a_bare_name_gets_the_base(sglang: Running[Sglang], tmp_path: Path) -> None:
    """Why clients must write `<base>:<adapter>`, and why the driver asks by `lora_path`."""
    path = store_adapter(tmp_path)
    drive("sglang", sglang.url, lambda driver: driver.load("a", path, None), folder=tmp_path)
    said = [
        sglang.engine.answer("POST", "/v1/chat/completions", None, {"model": each}) for each in ("a", "base-model:a")
    ]
    texts = [reply["choices"][0]["message"]["content"] for _, reply in said]
    assert texts[0] == "base-model"
    assert texts[1].startswith("sha256:")


@pytest.mark.parametrize(
    "reply",
    [
        (404, {"detail": "Not Found"}),
        (200, {"text": "x", "meta_info": {}}),
        (200, []),
        (400, {"error": {"message": "no support for logprob here"}}),
    ],
)
def test_engines_that_cannot_say_log_probabilities(sglang: Running[Sglang], tmp_path: Path, reply: object) -> None:
    async def ask(driver: Driver) -> None:
        sglang.replies = [reply]  # type: ignore[list-item]
        with pytest.raises(ProbeUnsupportedError):
            await driver.next_tokens(None, None, "Hello", 3)

    drive("sglang", sglang.url, ask, folder=tmp_path)


def test_the_fake_does_load_again_without_the_links(tmp_path: Path) -> None:
    """What the links are for: with the version's own path, the next request undoes the unload."""
    engine, path = Sglang(), store_adapter(tmp_path)
    engine.answer("POST", "/load_lora_adapter", None, {"lora_name": "a", "lora_path": str(path)})
    engine.answer("POST", "/unload_lora_adapter", None, {"lora_name": "a"})
    assert engine.answer("POST", "/v1/chat/completions", None, {"model": "base-model:a"})[0] == 200
    assert engine.registered == {"a": str(path)}
    with pytest.raises(LoadError):
        engine._resolve("never")
