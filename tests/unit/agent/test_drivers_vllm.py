"""vLLM's answers by meaning, in both envelopes, and what the driver asks in which order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_agent.drivers.base import Driver, ErrorKind, ProbeUnsupportedError
from support.engines.adapters import store_adapter, write_adapter
from support.engines.contract import fails
from support.engines.driving import drive
from support.engines.running import Running, running
from support.engines.vllm import Vllm

LOAD = "/v1/load_lora_adapter"
UNLOAD = "/v1/unload_lora_adapter"


@pytest.fixture
def vllm() -> Iterator[Running[Vllm]]:
    with running(Vllm()) as server:
        yield server


def nested(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": 1}}


def flat(kind: str, message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": 1}


@pytest.mark.parametrize("envelope", [nested, flat])
@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (500, "InternalServerError", "LoRA rank 64 is greater than max_lora_rank 16.", ErrorKind.REFUSED),
        (500, "InternalServerError", "vLLM does not yet support DoRA.", ErrorKind.REFUSED),
        (500, "InternalServerError", "LoRA is not enabled. Use --enable-lora.", ErrorKind.NOT_ENABLED),
        (500, "InternalServerError", "CUDA out of memory. Tried to allocate 2 GiB", ErrorKind.BUSY),
        (500, "InternalServerError", "EngineCore encountered an issue.", ErrorKind.UNREACHABLE),
        (404, "NotFoundError", "No adapter found for /adapters/x", ErrorKind.NOT_FOUND),
        (400, "InvalidUserInput", "The lora adapter 'a' has already been loaded.", ErrorKind.ALREADY_LOADED),
        (400, "InvalidUserInput", "'a' conflicts with a served base model", ErrorKind.REFUSED),
        (429, "RateLimit", "later", ErrorKind.BUSY),
        (503, "ServiceUnavailable", "starting", ErrorKind.BUSY),
    ],
)
def test_a_refused_load(
    vllm: Running[Vllm], envelope: Any, status: int, kind: str, message: str, expected: ErrorKind
) -> None:
    vllm.replies = [(status, envelope(kind, message))]
    said = drive("vllm", vllm.url, lambda driver: fails(driver.load("a", Path("/adapters/x"), None), expected))
    if expected is not ErrorKind.NOT_ENABLED:
        assert said == message


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        ((404, {"detail": "Not Found"}), ErrorKind.NOT_ENABLED, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        ((404, "<html>not here</html>"), ErrorKind.NOT_ENABLED, "--enable-lora"),
        ((405, {"detail": "Method Not Allowed"}), ErrorKind.NOT_ENABLED, "--enable-lora"),
        ((401, {"error": "Unauthorized"}), ErrorKind.UNAUTHORIZED, "LORA_ENGINE_API_KEY"),
        ((422, {"detail": [{"msg": "Field required", "loc": ["lora_path"]}]}), ErrorKind.REFUSED, "Field required"),
        ((500, "Internal Server Error"), ErrorKind.REFUSED, "Internal Server Error"),
        ((500, ""), ErrorKind.REFUSED, "status 500 without a word"),
        ((302, ""), ErrorKind.REFUSED, "status 302"),
        ((400, {"error": {"message": "x " * 2000}}), ErrorKind.REFUSED, "x x"),
    ],
)
def test_answers_in_other_shapes(vllm: Running[Vllm], reply: Any, expected: ErrorKind, words: str) -> None:
    vllm.replies = [reply]
    said = drive("vllm", vllm.url, lambda driver: fails(driver.load("a", Path("/adapters/x"), None), expected))
    assert words in said
    assert len(said) <= 500
    assert "\n" not in said


def test_without_runtime_loading_the_message_says_what_to_set(tmp_path: Path) -> None:
    adapter = store_adapter(tmp_path)
    for engine in (Vllm(runtime_updating=False), Vllm(enable_lora=False)):
        with running(engine) as server:
            said = drive(
                "vllm", server.url, lambda driver: fails(driver.load("a", adapter, None), ErrorKind.NOT_ENABLED)
            )
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1" in said
        assert "--enable-lora" in said


@pytest.mark.parametrize("adapter", [{"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 32}}, {"cut": 1}])
def test_files_that_it_cannot_take(vllm: Running[Vllm], tmp_path: Path, adapter: dict[str, Any]) -> None:
    path = write_adapter(tmp_path / "bad", **adapter)
    drive("vllm", vllm.url, lambda driver: fails(driver.load("a", path, None), ErrorKind.REFUSED))


def test_a_change_is_one_call_in_place(vllm: Running[Vllm], tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def change(driver: Driver) -> None:
        await driver.load("a", one, None)
        await driver.load("a", two, str(one))

    drive("vllm", vllm.url, change)
    assert vllm.posts() == [
        (LOAD, {"lora_name": "a", "lora_path": str(one)}),
        (LOAD, {"lora_name": "a", "lora_path": str(two), "load_inplace": True}),
    ]


@pytest.mark.parametrize("age", ["overlooked", "refused", "ineffective"])
def test_a_change_without_load_inplace_is_unload_and_load(vllm: Running[Vllm], tmp_path: Path, age: str) -> None:
    vllm.engine.load_inplace = age
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    vllm.engine.load("a", str(one))
    drive("vllm", vllm.url, lambda driver: driver.load("a", two, str(one)))
    assert [path for path, _ in vllm.posts()] == [LOAD, UNLOAD, LOAD]
    assert vllm.engine.loaded == {"a": str(two)}


def test_a_bad_change_without_load_inplace_puts_the_version_before_back(vllm: Running[Vllm], tmp_path: Path) -> None:
    vllm.engine.load_inplace = "overlooked"
    one, bad = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two", cut=9)
    vllm.engine.load("a", str(one))
    drive("vllm", vllm.url, lambda driver: fails(driver.load("a", bad, str(one)), ErrorKind.REFUSED))
    assert vllm.engine.loaded == {"a": str(one)}


def test_when_the_version_before_cannot_be_put_back_both_reasons_are_told(vllm: Running[Vllm], tmp_path: Path) -> None:
    vllm.engine.load_inplace = "overlooked"
    bad = store_adapter(tmp_path, seed="two", cut=9)
    vllm.engine.loaded["a"] = "/adapters/.store/gone"
    said = drive(
        "vllm", vllm.url, lambda driver: fails(driver.load("a", bad, "/adapters/.store/gone"), ErrorKind.REFUSED)
    )
    assert "MetadataIncompleteBuffer" in said
    assert "could not be put back" in said
    assert "No adapter found for /adapters/.store/gone" in said


def test_an_adapter_is_never_loaded_over_the_base_also_where_the_engine_would(vllm: Running[Vllm]) -> None:
    async def load(driver: Driver) -> str:
        await driver.list()
        return await fails(driver.load("base-model", Path("/adapters/x"), None), ErrorKind.REFUSED)

    assert "is the name of the base model" in drive("vllm", vllm.url, load)
    assert vllm.posts() == []


def test_nothing_is_asked_for_what_is_there(vllm: Running[Vllm]) -> None:
    drive("vllm", vllm.url, lambda driver: driver.load("a", Path("/adapters/x"), "/adapters/x"))
    assert vllm.requests == []


def test_a_restarted_engine_shows_nothing_and_its_new_version(vllm: Running[Vllm], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def over_a_restart(driver: Driver) -> None:
        await driver.load("a", path, None)
        assert (await driver.list()).adapters == {"a": str(path)}
        vllm.stop()
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        await fails(driver.load("b", path, None), ErrorKind.UNREACHABLE)
        await fails(driver.unload("a", path), ErrorKind.UNREACHABLE)
        vllm.engine.version = "0.34.0"
        vllm.start()
        listing = await driver.list()
        assert listing.adapters == {}
        assert listing.version == "0.34.0"
        assert listing.bases == ("base-model", "/models/base-model")

    drive("vllm", vllm.url, over_a_restart)


def test_the_version_is_asked_for_once(vllm: Running[Vllm]) -> None:
    async def look_twice(driver: Driver) -> None:
        await driver.list()
        await driver.list()

    drive("vllm", vllm.url, look_twice)
    assert [each.path for each in vllm.requests] == ["/v1/models", "/version", "/v1/models"]


@pytest.mark.parametrize("reply", [(200, "hello"), (200, {"data": "x"}), (200, {"data": [3]}), (200, []), (503, "no")])
def test_a_list_that_is_none_is_no_engine(vllm: Running[Vllm], reply: Any) -> None:
    vllm.replies = [reply]
    drive("vllm", vllm.url, lambda driver: fails(driver.list(), ErrorKind.UNREACHABLE))


def test_a_wrong_key_is_told_and_never_shown() -> None:
    async def with_a_wrong_one(driver: Driver) -> None:
        await fails(driver.list(), ErrorKind.UNAUTHORIZED)
        assert "LORA_ENGINE_API_KEY" in await fails(driver.unload("a", None), ErrorKind.UNAUTHORIZED)

    async def with_a_right_one(driver: Driver) -> None:
        assert "k-right" not in await fails(driver.load("a", Path("/x"), None), ErrorKind.REFUSED)

    with running(Vllm(api_key="k-right")) as server:
        drive("vllm", server.url, with_a_wrong_one, key="k-wrong")
        server.replies = [(500, "the key k-right is odd")]
        drive("vllm", server.url, with_a_right_one, key="k-right")


def test_probes_ask_past_the_prefix_cache(vllm: Running[Vllm]) -> None:
    async def ask_twice(driver: Driver) -> None:
        for _ in range(2):
            assert len(await driver.next_tokens(None, None, [1, 2], 7)) == 7

    drive("vllm", vllm.url, ask_twice)
    one, two = vllm.posts("/v1/completions")
    assert one["cache_salt"] != two["cache_salt"]
    assert one["model"] == "base-model"
    assert (one["max_tokens"], one["temperature"], one["logprobs"], one["prompt"]) == (1, 0, 7, [1, 2])


def test_token_texts_where_ids_are_not_known(vllm: Running[Vllm]) -> None:
    vllm.engine.knows_token_ids = False
    said = drive("vllm", vllm.url, lambda driver: driver.next_tokens(None, None, "Hello", 3))
    assert all(each.startswith("<") for each in said)


@pytest.mark.parametrize(
    "reply",
    [
        (404, {"detail": "Not Found"}),
        (400, nested("BadRequestError", "Requested logprobs of 20, which is greater than max allowed: 5")),
        (400, nested("BadRequestError", "The model does not support Completions API")),
        (200, {"choices": [{"text": "x", "logprobs": None}]}),
        (200, {"choices": []}),
        (200, "x"),
        (200, {"choices": [{"logprobs": {"top_logprobs": [{}]}}]}),
    ],
)
def test_engines_that_cannot_say_log_probabilities(vllm: Running[Vllm], reply: Any) -> None:
    async def ask(driver: Driver) -> None:
        await driver.list()
        vllm.replies = [reply]
        with pytest.raises(ProbeUnsupportedError):
            await driver.next_tokens(None, None, "Hello", 3)

    drive("vllm", vllm.url, ask)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((400, nested("BadRequestError", "Token id 900 is out of vocabulary")), ErrorKind.REFUSED),
        ((500, nested("InternalServerError", "Out of range float values")), ErrorKind.REFUSED),
        ((404, nested("NotFoundError", "The model `a` does not exist.")), ErrorKind.NOT_FOUND),
        ((200, '{"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": NaN}]}}]}'), ErrorKind.REFUSED),
        ((200, {"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": None}]}}]}), ErrorKind.REFUSED),
    ],
)
def test_a_model_that_computes_nonsense(vllm: Running[Vllm], reply: Any, kind: ErrorKind) -> None:
    vllm.replies = [reply]
    drive("vllm", vllm.url, lambda driver: fails(driver.next_tokens("a", None, "Hello", 3), kind))
