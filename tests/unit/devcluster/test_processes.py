"""A pid file is believed only while its very process lives."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from devcluster.processes import read_pid_file, start_time, stop
from devcluster.settings import Paths


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    (tmp_path / "pids").mkdir()
    return Paths(state=tmp_path, binaries=tmp_path)


def write(where: Paths, pid: int, started: str | None) -> None:
    (where.pids / "etcd.json").write_text(json.dumps({"pid": pid, "started": started, "argv": ["etcd"]}))


def test_a_living_process_is_found(where: Paths) -> None:
    write(where, os.getpid(), start_time(os.getpid()))
    recorded = read_pid_file(where, "etcd")
    assert recorded is not None
    assert recorded.pid == os.getpid()


def test_a_pid_that_another_process_has_now_is_stale_and_is_left_alone(where: Paths) -> None:
    write(where, os.getpid(), "1")  # started with the machine, so not this one
    assert read_pid_file(where, "etcd") is None
    stop(where, "etcd")  # would end this test run if it believed the file
    assert not (where.pids / "etcd.json").exists()


def test_a_dead_process_that_nobody_reaped_is_stale(where: Paths) -> None:
    process = subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE)
    started = start_time(process.pid) or ""
    assert process.stdout is not None
    process.stdout.read()  # ends when the process does
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    write(where, process.pid, started)
    assert read_pid_file(where, "etcd") is None
    process.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_file_is_stale(where: Paths, content: str) -> None:
    (where.pids / "etcd.json").write_text(content)
    assert read_pid_file(where, "etcd") is None
