"""HTTP to an engine beside us: bounded answers, time limits, and errors by meaning in every envelope we know.

The key goes to the engine alone: redirects are not followed, and no message repeats it.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from lora_agent.drivers.base import EngineError, ErrorKind

MAX_ANSWER_BYTES: Final = 8 * 2**20
CONNECT_SECONDS: Final = 3.0
"""The engine is in the same pod, so a connection takes microseconds, or the engine hangs."""
_RETRY: Final = frozenset({408, 425, 429, 502, 503, 504})


class NotListeningError(EngineError):
    """Nobody listens: the engine's process has not started, or it has ended, and with it all that it knew."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds."""

    listing: float = 10.0
    load: float = 600.0
    """A large adapter from a slow disk into a busy engine; an unload may wait for requests that run."""
    generate: float = 120.0
    """One token, behind all requests that wait already."""


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and text of an answer."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether it is 200."""
        return self.status == 200

    def json(self) -> Any:
        """Return the parsed JSON, None if it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class EngineClient:
    """Requests to one base URL."""

    def __init__(self, url: str, api_key: str | None, session: aiohttp.ClientSession) -> None:
        """Take the URL without a path, and the key that the engine was started with."""
        self._url = url.rstrip("/")
        self._key = api_key
        self._session = session

    async def get(self, path: str, seconds: float) -> Answer:
        """Ask. Raises UNREACHABLE also when no answer comes in time."""
        return await self._request("GET", path, None, seconds, late=ErrorKind.UNREACHABLE)

    async def post(self, path: str, body: dict[str, Any], seconds: float) -> Answer:
        """Order. Raises BUSY when no answer comes in time: it may have taken effect."""
        return await self._request("POST", path, body, seconds, late=ErrorKind.BUSY)

    async def _request(self, method: str, path: str, body: Any, seconds: float, late: ErrorKind) -> Answer:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.request(
                method, self._url + path, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, self._without_key(await _bounded(response)))
        except aiohttp.ConnectionTimeoutError as error:
            raise EngineError(
                ErrorKind.UNREACHABLE, f"no connection to {self._url} in {CONNECT_SECONDS:g} s"
            ) from error
        except TimeoutError as error:
            raise EngineError(late, f"no answer to {method} {path} within {seconds:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise NotListeningError(ErrorKind.UNREACHABLE, f"no connection to {self._url}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineError(ErrorKind.UNREACHABLE, f"no answer to {method} {path}: {error}") from error

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


async def _bounded(response: aiohttp.ClientResponse) -> str:
    content = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise EngineError(ErrorKind.UNREACHABLE, f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB")
    return content.decode(errors="replace")


def message_of(answer: Answer) -> str:
    """Return the words of a refusal, whichever envelope they come in."""
    return _words(answer.json()) or answer.text or f"status {answer.status} without a word"


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):  # the field errors of a validation
        return "; ".join(filter(None, (_words(each) for each in value)))
    if isinstance(value, dict):
        for key in ("message", "error_message", "error", "detail", "msg"):
            if words := _words(value.get(key)):
                return words
    return ""


def type_of(answer: Answer) -> str:
    """Return the type of an OpenAI error: of the nested envelope, or of the flat one of older versions."""
    value = answer.json()
    inner = value.get("error", value) if isinstance(value, dict) else None
    found = inner.get("type") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else ""


def kind_of_status(status: int) -> ErrorKind | None:
    """Return what a status means to every engine, None if the engine must say."""
    if status in (401, 403):
        return ErrorKind.UNAUTHORIZED
    return ErrorKind.BUSY if status in _RETRY else None


def refusal(answer: Answer, kind: ErrorKind) -> EngineError:
    """Return the error for an answer, of the given kind unless the status alone says another."""
    kind = kind_of_status(answer.status) or kind
    hint = ": LORA_ENGINE_API_KEY is not a key of the engine" if kind is ErrorKind.UNAUTHORIZED else ""
    return EngineError(kind, message_of(answer) + hint)


def unreadable(answer: Answer) -> EngineError:
    """Return the error for a question that was not answered: UNREACHABLE, unless it is the key that is wrong."""
    error = refusal(answer, ErrorKind.UNREACHABLE)
    return error if error.kind is ErrorKind.UNAUTHORIZED else EngineError(ErrorKind.UNREACHABLE, error.message)
