"""The exact lines of the log."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from lora_operator.app.handlers import operator_settings
from lora_operator.app.logs import configure_logs, pass_context, set_generation
from lora_operator.reconcile.keys import Key, Kind

KEY = Key(Kind.LORAJOB, "team-a", "support-bot")
WIRE_KEY = {"kind": "LoRAJob", "namespace": "team-a", "name": "support-bot"}
LOG = logging.getLogger("lora_operator.test")
CREATED = 1767323045.678  # 2026-01-02T03:04:05.678Z


class Output(io.StringIO):
    """What was logged."""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, factory = root.handlers[:], root.level, logging.getLogRecordFactory()

    def at_a_fixed_time(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.created = CREATED
        return record

    logging.setLogRecordFactory(at_a_fixed_time)
    yield
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def output(log_format: str = "json", level: str = "INFO") -> Output:
    stream = Output()
    configure_logs(log_format, level, stream)
    return stream


def test_a_line_without_a_pass() -> None:
    out = output()
    LOG.info("Serves %s", "all namespaces")
    assert out.getvalue() == (
        '{"time": "2026-01-02T03:04:05.678Z", "level": "info", "logger": "lora_operator.test",'
        ' "message": "Serves all namespaces"}\n'
    )


def test_a_line_of_a_pass_has_key_generation_and_reason() -> None:
    out = output()
    with pass_context(KEY):
        LOG.info("before it is read")
        set_generation(3)
        LOG.warning("The Secret is missing", extra={"reason": "SecretNotFound"})
    LOG.info("after it")
    time = {"time": "2026-01-02T03:04:05.678Z", "logger": "lora_operator.test"}
    assert out.lines() == [
        time | {"level": "info", "message": "before it is read", "key": WIRE_KEY},
        time
        | {"level": "warning", "message": "The Secret is missing", "key": WIRE_KEY}
        | {"generation": 3, "reason": "SecretNotFound"},
        time | {"level": "info", "message": "after it"},
    ]


def test_tasks_of_a_pass_share_its_generation_and_passes_side_by_side_keep_their_own() -> None:
    out = output()

    async def read() -> None:
        set_generation(7)

    async def one(key: Key, generation: int) -> None:
        with pass_context(key, generation):
            await asyncio.sleep(0)
            LOG.info("written")

    async def scenario() -> None:
        with pass_context(KEY):
            await asyncio.gather(read())
            LOG.info("read")
        await asyncio.gather(*(one(Key(Kind.LORAJOB, "team-a", f"job-{each}"), each) for each in range(3)))

    asyncio.run(scenario())
    first, *others = out.lines()
    assert first["generation"] == 7
    assert [(each["key"]["name"], each["generation"]) for each in others] == [
        (f"job-{each}", each) for each in range(3)
    ]


def _fail(cause: str, message: str) -> None:
    """Log an exception."""
    try:
        _raise(cause)
    except ValueError:
        LOG.exception(message)


def _raise(cause: str) -> None:
    raise ValueError(cause)


def test_an_exception_is_one_field() -> None:
    out = output()
    _fail("no such\nthing", "It failed")
    (line,) = out.lines()
    assert line["message"] == "It failed"
    assert line["error"].startswith("Traceback (most recent call last):")
    assert line["error"].endswith("ValueError: no such\nthing")


def test_what_ended_a_pass_is_logged_after_it_and_still_names_it() -> None:
    out = output()
    try:
        with pass_context(KEY):
            set_generation(3)
            _raise("no such thing")
    except ValueError:
        LOG.exception("The pass failed")
    _fail("something else", "Another failure")
    first, second = out.lines()
    assert (first["key"], first["generation"]) == (WIRE_KEY, 3)
    assert "key" not in second


def test_long_messages_are_cut_and_of_long_tracebacks_the_end_stays() -> None:
    out = output()
    _fail("x" * 20_000 + " the end", "y" * 20_000)
    (line,) = out.lines()
    assert (len(line["message"]), len(line["error"])) == (8192, 8192)
    assert line["error"].endswith("the end")
    assert len(out.getvalue()) < 17_000


def test_anything_can_be_logged() -> None:
    out = output()
    LOG.info('a "quoted" %s', "line\nbreak \x00 ä \ud800")
    assert out.getvalue().isascii()
    assert out.getvalue().count("\n") == 1
    assert out.lines()[0]["message"] == 'a "quoted" line\nbreak \x00 ä \ud800'


def test_kopf_speaks_of_its_objects_in_the_same_way_and_never_of_their_bodies() -> None:
    out = output()
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "pod-1", "namespace": "team-a", "uid": "u"}
    logging.getLogger("kopf.objects").error("Failed", extra={"k8s_ref": reference, "settings": operator_settings()})
    logging.getLogger("kopf.objects").info("an event of each object")
    logging.getLogger("aiohttp.access").info("GET /healthz")
    assert out.lines() == [
        {
            "time": "2026-01-02T03:04:05.678Z",
            "level": "error",
            "logger": "kopf.objects",
            "message": "Failed",
            "key": {"kind": "Pod", "namespace": "team-a", "name": "pod-1"},
        }
    ]


def test_warnings_of_libraries_are_lines_too() -> None:
    out = output()
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in out.lines()[0]["message"]


def test_text_for_people() -> None:
    out = output("text")
    LOG.info("Serves all namespaces")
    with pass_context(KEY, 3):
        LOG.warning("a line\nbreak", extra={"reason": "SecretNotFound"})
    first, second = out.getvalue().splitlines()
    assert first == "2026-01-02T03:04:05.678Z INFO    lora_operator.test: Serves all namespaces"
    assert second == (
        "2026-01-02T03:04:05.678Z WARNING lora_operator.test: LoRAJob team-a/support-bot (generation 3): "
        "SecretNotFound: a line\\nbreak"
    )


def test_there_is_one_handler_however_often_it_is_configured() -> None:
    output()
    out = output(level="WARNING")
    LOG.info("too low")
    LOG.warning("once")
    assert [each["message"] for each in out.lines()] == ["once"]
    assert len(logging.getLogger().handlers) == 1
