"""Runs the download program for the agent: one process a download, ended when it says nothing for too long.

The agent's own memory and keys stay apart from it: the program gets the environment without the engine's key.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from pydantic import ValidationError

from lora_agent.faults import Fault
from lora_agent.transfer.protocol import LINE_BYTES, DownloadRequest, FaultError, Line, StoreRecord, plain_uri
from lora_api.names import ENGINE_KEY_VARIABLE
from lora_api.reasons import Reason

SILENCE_SECONDS = 180.0
"""The program itself gives up a silent server after three times 20 s; a slow disk may need longer to write through."""
WHOLE_SECONDS = 3600.0
"""A server that sends a byte now and then must not keep others from their downloads for ever."""
Progress = Callable[[int, int], None]


class Fetcher(Protocol):
    """Whatever fills a folder. A protocol, so that the loop can be tested without processes."""

    async def fetch(self, request: DownloadRequest, progress: Progress) -> StoreRecord:
        """Fill the folder, and return what is in it. `progress` is given bytes done and total. Raises `FaultError`."""


class ProgramFetcher:
    """Downloads in a process of its own."""

    def __init__(self, environment: Mapping[str, str] | None = None, silence_seconds: float = SILENCE_SECONDS) -> None:
        inherited = os.environ if environment is None else environment
        self._environment = {name: value for name, value in inherited.items() if name != ENGINE_KEY_VARIABLE}
        self._silence = silence_seconds

    async def fetch(self, request: DownloadRequest, progress: Progress) -> StoreRecord:
        """Run the program to its end. A cancelled fetch leaves no process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lora_agent.download"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
            limit=LINE_BYTES,
        )
        try:
            last = await self._converse(process, request, progress)
        finally:
            await _end(process)
        if last.fault is not None:
            raise FaultError(Fault(last.fault.reason, last.fault.message, last.fault.permanent))
        if last.record is None:
            what = f"the download program ended with code {process.returncode}"
            raise _failed(request, Reason.INTERNAL_ERROR, what)
        return last.record

    async def _converse(
        self, process: asyncio.subprocess.Process, request: DownloadRequest, progress: Progress
    ) -> Line:
        """Return the program's last line. Its standard input stays open: it ends when that is closed."""
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        line = Line()
        with contextlib.suppress(ConnectionError):  # it ended early; its code says why
            process.stdin.write(request.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")
            await process.stdin.drain()
        deadline = asyncio.get_running_loop().time() + WHOLE_SECONDS
        try:
            while text := await asyncio.wait_for(process.stdout.readline(), self._patience(deadline)):
                line = Line.model_validate_json(text)
                if line.record is not None or line.fault is not None:
                    return line
                progress(line.done, line.total)
        except TimeoutError:
            what = f"nothing came for {self._silence:.0f} s, or not everything within {WHOLE_SECONDS:.0f} s"
            raise _failed(request, Reason.SERVICE_UNAVAILABLE, what) from None
        except (ValidationError, ValueError):
            raise _failed(request, Reason.INTERNAL_ERROR, "the download program spoke nonsense") from None
        await process.wait()
        return line

    def _patience(self, deadline: float) -> float:
        return min(self._silence, max(0.0, deadline - asyncio.get_running_loop().time()))


def _failed(request: DownloadRequest, reason: Reason, what: str) -> FaultError:
    return FaultError(Fault(reason, f"{plain_uri(request.uri)}: {what}", permanent=False))


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process, if it has not ended, and wait for it also when this task is cancelled."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
