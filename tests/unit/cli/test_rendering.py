"""Texts and pictures, as they are printed."""

import json
import math
from typing import Any

import pytest

from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_cli.commands.watch import Lines, Screen
from lora_cli.explain.reading import job_status
from lora_cli.render.curve import draw
from lora_cli.render.listing import adapter_table, adapter_troubles, job_table
from lora_cli.render.log_line import pretty
from lora_cli.render.plan import preflight_lines, settings_lines
from lora_cli.render.units import duration, size, table
from lora_cli.render.watch import Terminal, line, screen
from support.samples import PROGRESS, RESOLVED, checkpoint
from support.specs import SMALLEST
from unit.cli.golden_text import assert_golden
from unit.cli.objects import NOW, adapter, condition, failed, serving_pod, short_run, succeeded, training, unseen


def test_a_screen_has_bar_numbers_and_curve() -> None:
    lines = screen("support-bot", job_status(training()), NOW, Terminal(width=72))
    assert_golden("watch", lines)
    assert all(len(each) <= 72 for each in lines)


def test_the_last_screen_of_a_run_that_nobody_heard_has_its_curve_and_no_checkpoint() -> None:
    status = job_status(short_run())
    lines = screen("support-bot", status, NOW, Terminal(width=72))
    assert_golden("watch-succeeded", lines)
    assert status.checkpoint is not None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"progress": None}, ["0.0%  step 0/118", "before step 1: the pod starts, for 5m"]),
        (
            {"progress": {"activity": "LoadingModel"}, "checkpoint": checkpoint(59).wire()},
            ["50.0%  step 59/118", "before step 60: the pod loads the base model, for 5m"],
        ),
        ({"progress": {"activity": "Training"}}, ["0.0%  step 0/118", "before step 1: the pod computes it, for 5m"]),
        ({"progress": {"activity": "Publishing"}, "checkpoint": checkpoint(118).wire()}, ["100.0%  step 118/118"]),
        ({"progress": {"activity": "LoadingData"}, "resolved": None}, ["0.0%  step 0/?", "before step 1: the pod re~"]),
    ],
    ids=["nothing heard", "goes on from a checkpoint", "the first step", "no step is left", "no plan, and narrow"],
)
def test_before_the_first_step_a_screen_says_what_the_pod_does(told: dict[str, Any], expected: list[str]) -> None:
    status = job_status(training(**({"lossCurve": [], "checkpoint": None, "attempts": None} | told)))
    terminal = Terminal(width=26 if status.resolved is None else 72, unicode=False)
    bar, *rest = screen("bot", status, NOW, terminal)[1:]
    assert [bar.split("]")[1].strip(), *rest[: len(expected) - 1]] == expected
    assert not any("before step" in each for each in screen("bot", job_status(training()), NOW, terminal))


def test_a_long_note_takes_up_to_three_lines() -> None:
    hint = "lower spec.resources.cpu, or free CPU on a node; a preflight asks for 500m; the job goes on by itself"
    failure = {"reason": "Unschedulable", "message": "0/3 nodes " * 40, "hint": hint}
    stalled = job_status(training(phase="Scheduling", failure=failure, progress=None, checkpoint=None, lossCurve=[]))
    terminal = Terminal(width=60, colour=True)
    lines = screen("bot", stalled, NOW, terminal)[1:-1]
    assert [each.removeprefix("\x1b[2m").removesuffix("\x1b[0m") for each in lines] == [
        "Unschedulable: 0/3 nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3",
        "nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3",
        "nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3 nodes 0/3 nodes …",
        "What to do: lower spec.resources.cpu, or free CPU on a node;",
        "a preflight asks for 500m; the job goes on by itself",
    ]


def test_a_terminal_of_plain_ascii_gets_plain_ascii() -> None:
    lines = screen("support-bot", job_status(training()), NOW, Terminal(width=60, unicode=False))
    assert "".join(lines).isascii()
    assert any("*" in each for each in lines)


def test_colour_is_for_terminals_only() -> None:
    status = job_status(failed("Diverged", "the loss is NaN", "lower it"))
    assert "\x1b" not in "".join(screen("bot", status, NOW, Terminal()))
    assert "\x1b[31m" in screen("bot", status, NOW, Terminal(colour=True))[0]


@pytest.mark.parametrize("width", [1, 10, 20, 24, 31, 32, 40, 101])
def test_no_line_of_a_screen_is_longer_than_the_terminal(width: int) -> None:
    progress = PROGRESS.model_copy(update={"overfitting": "\x1b[2J" + "word " * 60})
    lines = screen("support-bot" * 4, job_status(training(progress=progress.wire())), NOW, Terminal(width))
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_a_line_says_the_same() -> None:
    assert line("support-bot", job_status(training()), NOW) == (
        "support-bot  Running  step 60/118  loss 1.4000  eval loss 1.6000  epoch 1.00  5 K tokens/s  ETA 12m34s"
    )


def test_lines_come_only_when_something_has_changed() -> None:
    said: list[str] = []
    lines = Lines("bot", said.append)
    for document in (training(), training(), succeeded()):
        lines.show(job_status(document), NOW)
    assert [each.split("  ")[1] for each in said] == ["Running", "Succeeded"]


def test_what_a_run_waits_for_is_told_with_what_to_do() -> None:
    said: list[str] = []
    failure = {"reason": "SecretNotFound", "message": 'Secret "s3" does not exist', "hint": "create it"}
    stalled = job_status(training(phase="Stalled", reason="SecretNotFound", failure=failure, progress=None))
    Lines("bot", said.append).show(stalled, NOW)
    assert said == [
        "bot  Stalled (SecretNotFound)",
        'SecretNotFound: Secret "s3" does not exist',
        "What to do: create it",
    ]
    assert "What to do: create it" in screen("bot", stalled, NOW, Terminal())


def test_a_screen_is_drawn_over_the_one_before() -> None:
    said: list[str] = []
    drawn = Screen("bot", said.append)
    drawn.show(job_status(training()), NOW)
    height = said[0].count("\n")
    drawn.show(job_status(succeeded()), NOW)
    assert said[1].startswith(f"\x1b[{height}A\x1b[2K")


@pytest.mark.parametrize(
    ("points", "marks", "picture"),
    [
        ([], [], []),
        ([(0, 1), (10, 0)], [], ["1 │⠉⠒⠤⣀", "  └────", "   0 10"]),
        ([(0, 1), (5, math.nan), (10, 1)], [], ["1 │⠤⠤⠤⠤", "  └────", "   0 10"]),
        ([(0, 4), (10, 0)], [(10, 4)], ["4 │⠑⢄ ◆", "0 │  ⠑⢄", "  └────", "   0 10"]),
    ],
)
def test_a_curve(points: list[tuple[float, float]], marks: list[tuple[float, float]], picture: list[str]) -> None:
    assert draw(points, marks, 4, len(picture) - 2) == picture


def test_lists() -> None:
    told = [
        condition("Ready", "False", "RolledBack"),
        condition("Degraded", reason="EngineRefused", message="abab is not served: pod vllm-0 refused"),
    ]
    pods = [serving_pod("Failed", "EngineRefused", "rank 64 > 16"), serving_pod("Served", name="vllm-1")]
    refused = [{"engine": "vllm", "servable": False, "message": "rank 64 is above its limit"}]
    adapters = [adapter(*told, servedPods="1/2", pods=pods, compatibility=refused)]
    jobs = [training(), succeeded(), unseen(2)]
    assert_golden(
        "lists",
        [
            *job_table(jobs, NOW, everywhere=True),
            "",
            *adapter_table(adapters, NOW, everywhere=False),
            "",
            *adapter_troubles(adapters),
        ],
    )


def test_a_plan_marks_defaults_and_gives_the_memory_with_its_terms() -> None:
    job = JobFile(namespace="team-a", name="bot", spec=LoRAJobSpec.model_validate(SMALLEST))
    assert_golden("plan", [*settings_lines(job, SMALLEST), *preflight_lines(RESOLVED)])


def _error(code: int, message: str, exception: str) -> str:
    """Return the line of a trainer's log that tells how it ended."""
    told = {"time": "2026-01-02T03:04:05.000+00:00", "level": "error", "message": message, "exitCode": code}
    return json.dumps(told | {"exception": exception, "places": ["cli.py:73 run"]})


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (
            '{"time": "2026-01-02T03:04:05.678+00:00", "level": "info", "message": "step", "loss": 1.23456789, "n": 3}',
            "03:04:05 step loss=1.2346 n=3",
        ),
        ('{"time": "2026-01-02T03:04:05", "level": "warning", "message": "cut", "why": "too long"}',
         '03:04:05 WARNING cut why="too long"'),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ('{"message": "\\u001b[2J gone"}', "�[2J gone"),
        ("[1]", "[1]"),
        (_error(65, "row 7", "TrainerError"), "03:04:05 ERROR row 7 exitCode=65"),
        (
            _error(70, "unexpected KeyError", "KeyError"),
            '03:04:05 ERROR unexpected KeyError exitCode=70 exception=KeyError places=["cli.py:73 run"]',
        ),
    ],
)  # fmt: skip
def test_a_log_line(raw: str, shown: str) -> None:
    assert pretty(raw) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (200, "3m20s"), (7500, "2h5m"), (90_000, "1d1h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_tables() -> None:
    assert [size(each) for each in (0, 999, 999_600, 19_543_210)] == ["0 B", "999 B", "1 MB", "19.5 MB"]
    assert table(["A", "B"], [["x\ny", "1"], ["z", ""]]) == ["A     B", "x y   1", "z"]
