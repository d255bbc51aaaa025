"""LoRAX: a version is loaded by asking for it, under its path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_agent.drivers.base import Driver, ErrorKind, ProbeUnsupportedError
from support.engines.adapters import store_adapter, write_adapter
from support.engines.contract import fails
from support.engines.driving import drive
from support.engines.lorax import Lorax
from support.engines.running import Running, running


@pytest.fixture
def lorax() -> Iterator[Running[Lorax]]:
    with running(Lorax()) as server:
        yield server


def test_a_load_is_a_request_for_one_token_with_the_path_as_id(lorax: Running[Lorax], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def load(driver: Driver) -> None:
        await driver.list()
        await driver.load("a", path, None)
        listing = await driver.list()
        assert listing.adapters == {"a": str(path)}
        assert listing.bases == ("base-model",)
        assert listing.version == "0.12.1"

    drive("lorax", lorax.url, load)
    parameters = lorax.posts("/generate")[0]["parameters"]
    assert parameters == {
        "max_new_tokens": 1,
        "do_sample": False,
        "adapter_id": str(path),
        "adapter_source": "local",
    }


def test_a_change_and_an_unload(lorax: Running[Lorax], tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def change(driver: Driver) -> None:
        await driver.load("a", one, None)
        await driver.load("a", two, str(one))
        assert (await driver.list()).adapters == {"a": str(two)}
        await driver.unload("a", two)
        await driver.unload("a", two)
        assert (await driver.list()).adapters == {}

    drive("lorax", lorax.url, change)


def test_a_fixed_name_would_answer_with_the_first_version(lorax: Running[Lorax], tmp_path: Path) -> None:
    """Why the id is the version's path."""
    link = tmp_path / "a"
    digests = []
    for seed in ("one", "two"):
        link.unlink(missing_ok=True)
        link.symlink_to(store_adapter(tmp_path, seed=seed))
        lorax.engine._generate({"inputs": "x", "parameters": {"adapter_id": str(link), "adapter_source": "local"}})
        digests.append(lorax.engine.modules[str(link)].sha256)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [({"cut": 8}, ErrorKind.REFUSED), ({"rank": 256}, ErrorKind.REFUSED), (None, ErrorKind.NOT_FOUND)],
)
def test_a_refused_load(
    lorax: Running[Lorax], tmp_path: Path, adapter: dict[str, int] | None, expected: ErrorKind
) -> None:
    path = tmp_path / "bad"
    if adapter:
        write_adapter(path, **adapter)  # type: ignore[arg-type]

    async def load(driver: Driver) -> None:
        await fails(driver.load("a", path, None), expected)
        assert (await driver.list()).adapters == {}

    drive("lorax", lorax.url, load)


def test_an_overloaded_engine_is_busy(lorax: Running[Lorax]) -> None:
    lorax.replies = [(429, {"error": "Model is overloaded", "error_type": "overloaded"})]
    said = drive("lorax", lorax.url, lambda driver: fails(driver.load("a", Path("/x"), None), ErrorKind.BUSY))
    assert said == "Model is overloaded"


def test_a_restart_of_the_engine_is_seen(lorax: Running[Lorax], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def over_a_restart(driver: Driver) -> None:
        await driver.list()
        await driver.load("a", path, None)
        lorax.stop()
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        lorax.start()
        assert (await driver.list()).adapters == {}
        await driver.load("a", path, None)
        lorax.engine.docker_label = "two"
        assert (await driver.list()).adapters == {}
        await driver.load("a", path, None)
        lorax.engine.healthy = False
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        lorax.engine.healthy = True
        assert (await driver.list()).adapters == {"a": str(path)}, "it was ill, and did not end"

    drive("lorax", lorax.url, over_a_restart)


def test_log_probabilities_of_texts(lorax: Running[Lorax], tmp_path: Path) -> None:
    path = store_adapter(tmp_path)

    async def ask(driver: Driver) -> None:
        await fails(driver.next_tokens("a", None, "Hello", 4), ErrorKind.NOT_FOUND)
        await driver.load("a", path, None)
        base = await driver.next_tokens(None, None, "Hello", 4)
        adapter = await driver.next_tokens("a", path, "Hello", 4)
        assert adapter == await driver.next_tokens("a", None, "Hello", 4)
        assert base != adapter
        assert all(each.isdecimal() for each in base)
        with pytest.raises(ProbeUnsupportedError):
            await driver.next_tokens("a", path, [1, 2], 4)
        for reply in ((200, {"generated_text": "x"}), (422, {"error": "return_k_alternatives must be <= 5"})):
            lorax.replies = [reply]
            with pytest.raises(ProbeUnsupportedError):
                await driver.next_tokens("a", path, "Hello", 4)

    drive("lorax", lorax.url, ask)
