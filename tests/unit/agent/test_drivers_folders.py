"""Engines that find adapters as folders: watched ones, and such as read them at their start only."""

from pathlib import Path

import pytest

from lora_agent.drivers import links
from lora_agent.drivers.base import Driver, EngineError, ErrorKind, ProbeUnsupportedError
from support.engines.adapters import store_adapter, write_adapter
from support.engines.contract import fails
from support.engines.driving import drive
from support.engines.nim import Nim
from support.engines.running import Running, running
from support.engines.tgi import Tgi

RECORD = ".static-served.json"


def test_a_link_is_swapped_whole_and_leads_there_from_any_mount(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    links.publish(tmp_path, "a", one)
    links.publish(tmp_path, "a", two)
    assert (tmp_path / "a").readlink() == Path(".store") / two.name
    assert links.published(tmp_path) == {"a": two}


def test_what_a_dead_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".new-a").symlink_to("nowhere")
    one = store_adapter(tmp_path)
    assert links.published(tmp_path) == {}
    links.publish(tmp_path, "a", one)
    assert links.published(tmp_path) == {"a": one}


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a")
    with pytest.raises(EngineError, match="is not a link of the agent") as caught:
        links.publish(tmp_path, "a", store_adapter(tmp_path))
    assert caught.value.kind is ErrorKind.ALREADY_LOADED
    links.remove(tmp_path, "a")
    assert (tmp_path / "a" / "adapter_config.json").is_file()


@pytest.mark.parametrize("name", ["", "..", ".store", "a/b", "/etc"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    for call in (lambda: links.publish(tmp_path, name, tmp_path), lambda: links.remove(tmp_path, name)):
        with pytest.raises(EngineError, match="cannot be the name of a folder"):
            call()


def test_a_watcher_finds_changes_and_removals(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def change(driver: Driver, server: Running[Nim]) -> None:
        await driver.load("a", one, None)
        assert (await driver.list()).adapters == {}, "it has not looked yet"
        server.engine.look()
        listing = await driver.list()
        assert listing.adapters == {"a": ""}
        assert listing.bases == ("base-model",)
        await fails(driver.load("base-model", one, None), ErrorKind.REFUSED)
        before = await driver.next_tokens("a", one, "Hello", 4)
        assert await driver.next_tokens(None, None, "Hello", 4) != before
        await driver.load("a", two, str(one))
        server.engine.look()
        assert await driver.next_tokens("a", two, "Hello", 4) != before
        await driver.unload("a", two)
        server.engine.look()
        assert (await driver.list()).adapters == {}

    with running(Nim(tmp_path)) as server:
        drive("dirwatch", server.url, lambda driver: change(driver, server), folder=tmp_path)


def test_a_watcher_skips_a_bad_folder_and_links_are_made_before_it_starts(tmp_path: Path) -> None:
    good, bad = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two", cut=5)

    async def publish(driver: Driver, server: Running[Nim]) -> None:
        server.stop()
        assert driver.works_offline
        await driver.load("good", good, None)
        await driver.load("bad", bad, None)
        server.start()
        assert (await driver.list()).adapters == {"good": ""}

    with running(Nim(tmp_path)) as server:
        drive("dirwatch", server.url, lambda driver: publish(driver, server), folder=tmp_path)


def test_a_static_engine_serves_what_was_there_before_its_start(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")

    async def live(driver: Driver, server: Running[Tgi]) -> None:
        server.stop()
        await driver.load("a", one, None)
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        server.start()
        assert (await driver.list()).adapters == {"a": str(one)} == server.engine.served

        said = await fails(driver.load("a", two, str(one)), ErrorKind.NOT_ENABLED)
        assert "restart the pod" in said
        await fails(driver.load("b", two, None), ErrorKind.NOT_ENABLED)
        assert (await driver.list()).adapters == {"a": str(one)} == server.engine.served

        server.stop()
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        server.start()
        assert (await driver.list()).adapters == {"a": str(two), "b": str(two)} == server.engine.served
        await driver.load("a", two, str(two))
        await driver.unload("b", two)
        assert (await driver.list()).adapters == {"a": str(two)}

    with running(Tgi(tmp_path)) as server:
        drive("static", server.url, lambda driver: live(driver, server), folder=tmp_path)


def test_a_restarted_agent_still_knows_what_a_static_engine_read(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    links.publish(tmp_path, "a", one)

    async def look(driver: Driver) -> object:
        return (await driver.list()).adapters

    with running(Tgi(tmp_path)) as server:
        assert drive("static", server.url, look, folder=tmp_path) == {"a": str(one)}
        links.publish(tmp_path, "a", two)
        assert drive("static", server.url, look, folder=tmp_path) == {"a": str(one)}
        (tmp_path / RECORD).write_text("{broken")
        assert drive("static", server.url, look, folder=tmp_path) == {"a": str(two)}, "nothing better is known"


def test_a_static_engine_that_is_still_starting_is_not_there(tmp_path: Path) -> None:
    with running(Tgi(tmp_path, health=503)) as server:
        drive("static", server.url, lambda driver: fails(driver.list(), ErrorKind.UNREACHABLE), folder=tmp_path)


def test_a_static_engine_that_is_ill_has_read_nothing_new(tmp_path: Path) -> None:
    one, two = store_adapter(tmp_path, seed="one"), store_adapter(tmp_path, seed="two")
    links.publish(tmp_path, "a", one)

    async def be_ill(driver: Driver, server: Running[Tgi]) -> None:
        await driver.list()
        links.publish(tmp_path, "a", two)
        server.engine.health = 503
        await fails(driver.list(), ErrorKind.UNREACHABLE)
        server.engine.health = 200
        assert (await driver.list()).adapters == {"a": str(one)} == server.engine.served

    with running(Tgi(tmp_path)) as server:
        drive("static", server.url, lambda driver: be_ill(driver, server), folder=tmp_path)


def test_a_static_engine_is_not_asked_for_tokens(tmp_path: Path) -> None:
    async def ask(driver: Driver) -> None:
        with pytest.raises(ProbeUnsupportedError):
            await driver.next_tokens("a", None, "Hello", 3)

    drive("static", "http://127.0.0.1:9", ask, folder=tmp_path)
