"""Messages of a conversation: checked, and reduced to what chat templates read.

Knows the format of chat services (role, content) and that of ShareGPT (from, value). No tokenizer here.
"""

import json
from typing import Any

from lora_trainer.data.rows import Message, RowError, check_text, kind_of

ROLES = ("system", "developer", "user", "assistant", "tool")
_PASSED_ON = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking")
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tool": "tool",
    "observation": "tool",
}


def read_messages(value: Any, place: str) -> tuple[list[Message], list[int]]:
    """Return the messages, and the indices of those that are learned. Raises `RowError`."""
    if value is None:
        raise RowError(f"{place} is missing; write a list of messages with role and content")
    if not isinstance(value, list) or not value:
        raise RowError(f"{place} is {kind_of(value)}; write a list of messages with role and content")
    messages, trained = [], []
    for index, message in enumerate(value):
        here = f"{place}[{index}]"
        if not isinstance(message, dict):
            raise RowError(f"{here} is {kind_of(message)}; write an object with role and content")
        if _check(message, here):
            trained.append(index)
        messages.append(_reduced(message))
    return messages, trained


def read_sharegpt(value: Any, place: str) -> tuple[list[Message], list[int]]:
    """Return the messages of a ShareGPT conversation, and the indices of those that are learned."""
    if not isinstance(value, list):
        raise RowError(f"{place} is {kind_of(value)}; write a list of objects with from and value")
    return read_messages([_renamed(turn, f"{place}[{index}]") for index, turn in enumerate(value)], place)


def is_conversation(value: Any) -> bool:
    """Return whether a value is meant to be a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def read_tools(value: Any) -> list[Any] | None:
    """Return the descriptions of the tools that the assistant may call."""
    if value is not None and not isinstance(value, list):
        raise RowError(f"tools is {kind_of(value)}; write a list of tool descriptions")
    return value or None


def _renamed(turn: Any, place: str) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn  # messages under the name conversations are common too
    role = _SHAREGPT_ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise RowError(f"{place}.from is not a known role; write one of {', '.join(_SHAREGPT_ROLES)}")
    return {"role": role, "content": turn.get("value"), "train": turn.get("train"), "weight": turn.get("weight")}


def _check(message: Message, place: str) -> bool:
    """Check one message, and return whether it is learned."""
    role = message.get("role")
    if role not in ROLES:
        fault = "is missing" if role is None else "is not a known role"
        raise RowError(f"{place}.role {fault}; write one of {', '.join(ROLES)}")
    if message.get("content") is not None or not message.get("tool_calls"):
        check_text(message.get("content"), f"{place}.content", may_be_empty=_may_be_empty(message))
    train, weight = message.get("train"), message.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"{place}.train is {kind_of(train)}; write true or false")
    if weight not in (None, 0, 1):  # the same wish in the format of hosted fine-tuning services
        raise RowError(f"{place}.weight is neither 0 nor 1; write train: true or train: false")
    return role == "assistant" and train is not False and weight != 0


def _may_be_empty(message: Message) -> bool:
    return message["role"] != "assistant" or bool(message.get("tool_calls"))


def _reduced(message: Message) -> Message:
    reduced = {key: message[key] for key in _PASSED_ON if message.get(key) is not None}
    if "tool_calls" in reduced:
        reduced["tool_calls"] = _read_calls(reduced["tool_calls"])
    return reduced


def _read_calls(calls: Any) -> Any:
    """Return tool calls with their arguments as objects.

    Chat services write them as JSON in a string. Engines turn that into an object before they render a template, and
    most templates would quote a string once more.
    """
    if not isinstance(calls, list):
        return calls
    return [_read_call(call) for call in calls]


def _read_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return call | {"function": function | {"arguments": arguments}} if isinstance(arguments, dict) else call
