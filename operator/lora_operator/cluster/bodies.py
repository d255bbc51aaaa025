"""Reads the body of an HTTP answer with a bound: what answers may be another's program, and send without end."""

from collections.abc import AsyncIterator

import aiohttp


async def read_body(content: aiohttp.StreamReader, maximum: int) -> bytes:
    """Return the whole body. Raises ValueError if it is longer than `maximum` bytes.

    One read returns what has arrived so far, which may be a part of it.
    """
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > maximum:
            raise ValueError(f"the answer is longer than {maximum} bytes")
    return bytes(body)


async def read_answer(response: aiohttp.ClientResponse, maximum: int) -> bytes:
    """Return the whole body of an answer, which is closed if that fails: its connection is of no more use."""
    try:
        return await read_body(response.content, maximum)
    except BaseException:
        response.close()
        raise


async def read_lines(content: aiohttp.StreamReader, maximum: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body as they come, without their ends. Raises ValueError if one is too long.

    A last line without an end is left out: the connection broke within it.
    """
    rest = bytearray()
    async for part in content.iter_any():
        rest += part
        if b"\n" not in part:
            _check(rest, maximum)
            continue
        end = rest.rfind(b"\n")
        lines, rest = bytes(rest[:end]).split(b"\n"), rest[end + 1 :]
        for line in lines:
            _check(line, maximum)
            if line.strip():
                yield line


def _check(line: bytes | bytearray, maximum: int) -> None:
    if len(line) > maximum:
        raise ValueError(f"a line is longer than {maximum} bytes")
