"""The two OpenAI routes that several engines share: the list of models, and a completion of one token."""

import math
from dataclasses import dataclass
from typing import Any, Final

from lora_agent.drivers.base import EngineError, ErrorKind, ProbeUnsupportedError, Prompt
from lora_agent.drivers.client import Answer, EngineClient, message_of, refusal, type_of, unreadable

TOKEN_ID_PREFIX: Final = "token_id:"  # noqa: S105 - a prefix of the answer


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the list of models."""

    id: str
    root: str
    """Path or hub name; empty if not said."""
    parent: str | None
    """Base model of an adapter."""


def split(models: list[Model]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return ids and roots of the bases, and the root of each adapter by name."""
    bases = [value for each in models if each.parent is None for value in (each.id, each.root) if value]
    return tuple(dict.fromkeys(bases)), {each.id: each.root for each in models if each.parent is not None}


def refuse_base_name(name: str, bases: tuple[str, ...]) -> None:
    """Raise REFUSED for an adapter with the name of a base model, which nobody could ask any more."""
    if name in bases:
        raise EngineError(ErrorKind.REFUSED, f"{name} is the name of the base model: take another served name")


async def models(client: EngineClient, seconds: float) -> list[Model]:
    """Return the models. Raises UNREACHABLE if anything but a list of models comes."""
    answer = await client.get("/v1/models", seconds)
    if not answer.ok:
        raise unreadable(answer)
    value = answer.json()
    entries = value.get("data") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise EngineError(ErrorKind.UNREACHABLE, "GET /v1/models answers with something else than a list of models")
    return [_model(each) for each in entries if isinstance(each.get("id"), str)]


def _model(entry: dict[str, Any]) -> Model:
    root, parent = entry.get("root"), entry.get("parent")
    return Model(entry["id"], root if isinstance(root, str) else "", parent if isinstance(parent, str) else None)


async def completion(
    client: EngineClient, model: str, prompt: Prompt, top: int, salt: str | None, seconds: float
) -> dict[str, float]:
    """Return the log-probabilities of the first token after a prompt.

    The salt keeps the engine from answering from its prefix cache: cached and fresh values differ in the last bits,
    and an adapter without effect must show none.
    """
    wish = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": top}
    body = wish | {"return_tokens_as_token_ids": True} | ({"cache_salt": salt} if salt else {})
    answer = await client.post("/v1/completions", body, seconds)
    if not answer.ok:
        raise _no_completion(answer)
    return values_of(_top(answer.json()))


def _no_completion(answer: Answer) -> Exception:
    words = message_of(answer)
    if answer.status == 404 and type_of(answer) == "NotFoundError":
        return EngineError(ErrorKind.NOT_FOUND, words)
    if "vocab" in words:  # the recorded token ids are not of this base model
        return EngineError(ErrorKind.REFUSED, words)
    # No such route, or not with these wishes: it is the question that is refused, so the adapter is not to blame.
    unsupported = answer.status in (400, 404, 405, 422, 501)
    return ProbeUnsupportedError(words) if unsupported else refusal(answer, ErrorKind.REFUSED)


def _top(value: Any) -> list[tuple[str, Any]]:
    try:
        pairs = value["choices"][0]["logprobs"]["top_logprobs"][0].items()
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ProbeUnsupportedError("the engine's completion says no log-probabilities") from None
    return [(str(token).removeprefix(TOKEN_ID_PREFIX), number) for token, number in pairs]


def values_of(pairs: list[tuple[str, Any]]) -> dict[str, float]:
    """Return log-probabilities by token. Raises REFUSED if one is no number: the model computes nonsense."""
    if not pairs:
        raise ProbeUnsupportedError("the engine says no log-probabilities")
    for token, number in pairs:
        if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
            raise EngineError(ErrorKind.REFUSED, f"the log-probability of token {token} is {number}, not a number")
    return {token: float(number) for token, number in pairs}
