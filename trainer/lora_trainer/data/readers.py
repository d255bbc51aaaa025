"""From the columns of a record to a checked row, one reader a format. No tokenizer here."""

from collections.abc import Callable
from typing import Any

from lora_api.sources import DataFormat
from lora_trainer.data.messages import is_conversation, read_messages, read_sharegpt, read_tools
from lora_trainer.data.rows import (
    ChatRow,
    ClassRow,
    InstructionRow,
    Message,
    PairRow,
    Record,
    Row,
    RowError,
    SourceRow,
    TagRow,
    TextRow,
    check_text,
    kind_of,
)


def reader_of(wanted: DataFormat, *, source_target: bool) -> Callable[[Record], Row]:
    """Return the reader of a format; `source_target` for a task that turns one text into another."""
    return (_SOURCE_TARGET_READERS if source_target else _READERS)[wanted]


def _read_messages(record: Record) -> ChatRow:
    name = "messages" if "messages" in record or "conversations" not in record else "conversations"
    read = read_messages if name == "messages" else read_sharegpt
    messages, trained = read(record.get(name), name)
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError(f"{name} has no assistant message, so there is nothing to learn; add the answer or drop the row")
    if not trained:
        raise RowError("every assistant message has train: false, so there is nothing to learn; drop the row")
    return ChatRow(messages, trained, read_tools(record.get("tools")))


def _read_prompt_completion(record: Record) -> ChatRow | TextRow:
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        before, _ = read_messages(prompt, "prompt")
        return _continued(before, completion, "completion", record)
    if isinstance(prompt, list) or isinstance(completion, list):
        raise RowError("one of prompt and completion is a list; write two strings or two lists of messages")
    return TextRow(check_text(prompt, "prompt", may_be_empty=True), check_text(completion, "completion"))


def _read_instruction(record: Record) -> InstructionRow:
    instruction = check_text(record.get("instruction"), "instruction")
    given = check_text(record.get("input", ""), "input", may_be_empty=True)
    system = check_text(record.get("system", ""), "system", may_be_empty=True)
    name = "output" if "output" in record or "response" not in record else "response"
    asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    return InstructionRow(system if system.strip() else "", asked, check_text(record.get(name), name))


def _read_text(record: Record) -> TextRow:
    return TextRow("", check_text(record.get("text"), "text"))


def _read_preference(record: Record) -> PairRow:
    prompt, chosen, rejected = (record.get(name) for name in ("prompt", "chosen", "rejected"))
    if is_conversation(chosen) and is_conversation(rejected):
        return _read_chat_pair(record)
    if isinstance(chosen, list) or isinstance(rejected, list) or isinstance(prompt, list):
        raise RowError("some of prompt, chosen and rejected are lists; write strings, or lists of messages")
    better, worse = check_text(chosen, "chosen"), check_text(rejected, "rejected")
    if prompt is None:
        prompt, better, worse = _common_text(better, worse)
    asked = check_text(prompt, "prompt", may_be_empty=True)
    return PairRow(TextRow(asked, better), TextRow(asked, worse))


def _read_chat_pair(record: Record) -> PairRow:
    prompt, chosen, rejected = (record.get(name) for name in ("prompt", "chosen", "rejected"))
    if isinstance(prompt, list):
        before, _ = read_messages(prompt, "prompt")
        chosen, rejected = (_without_prompt(each, prompt) for each in (chosen, rejected))
    else:
        common = _common_messages(chosen, rejected)
        if not common and not isinstance(prompt, str):
            raise RowError("chosen and rejected do not begin with the same messages; add a column prompt")
        before, _ = read_messages(chosen[:common] or [{"role": "user", "content": prompt}], "prompt")
        chosen, rejected = chosen[common:], rejected[common:]
    return PairRow(_continued(before, chosen, "chosen", record), _continued(before, rejected, "rejected", record))


def _read_classification(record: Record) -> ClassRow:
    name = "text" if "text" in record or "sentence" not in record else "sentence"
    pair = record.get("text_pair")
    if pair is not None:
        check_text(pair, "text_pair", may_be_empty=True)
    return ClassRow(check_text(record.get(name), name), pair, _label(record.get("label"), "label"))


def _read_tagging(record: Record) -> TagRow:
    name = "tags" if "tags" in record or "ner_tags" not in record else "ner_tags"
    words, tags = record.get("tokens"), record.get(name)
    for place, value in (("tokens", words), (name, tags)):
        if not isinstance(value, list) or not value:
            raise RowError(f"{place} is {kind_of(value)}; write a list")
    assert isinstance(words, list) and isinstance(tags, list)  # noqa: S101, PT018 - as checked above
    if len(words) != len(tags):
        raise RowError(f"tokens has {len(words)} entries and {name} {len(tags)}; write one tag for each token")
    checked = [check_text(word, f"tokens[{index}]", may_be_empty=True) for index, word in enumerate(words)]
    return TagRow(checked, [_label(tag, f"{name}[{index}]") for index, tag in enumerate(tags)])


def _read_source_target(record: Record) -> SourceRow:
    return SourceRow(check_text(record.get("source"), "source"), check_text(record.get("target"), "target"))


def _completion_as_target(record: Record) -> SourceRow:
    return SourceRow(check_text(record.get("prompt"), "prompt"), check_text(record.get("completion"), "completion"))


def _output_as_target(record: Record) -> SourceRow:
    row = _read_instruction(record)
    return SourceRow(f"{row.system}\n\n{row.instruction}" if row.system else row.instruction, row.output)


_READERS: dict[DataFormat, Callable[[Record], Row]] = {
    DataFormat.MESSAGES: _read_messages,
    DataFormat.PROMPT_COMPLETION: _read_prompt_completion,
    DataFormat.INSTRUCTION: _read_instruction,
    DataFormat.TEXT: _read_text,
    DataFormat.PREFERENCE: _read_preference,
    DataFormat.CLASSIFICATION: _read_classification,
    DataFormat.TAGGING: _read_tagging,
}
_SOURCE_TARGET_READERS: dict[DataFormat, Callable[[Record], Row]] = {
    DataFormat.SOURCE_TARGET: _read_source_target,
    DataFormat.PROMPT_COMPLETION: _completion_as_target,
    DataFormat.INSTRUCTION: _output_as_target,
}


def _continued(before: list[Message], answer: Any, place: str, record: Record) -> ChatRow:
    """Return the conversation in which only the answer is learned."""
    after, trained = read_messages(answer, place)
    if not trained:
        raise RowError(f"{place} has no assistant message; write the answer with role assistant")
    return ChatRow(before + after, [index + len(before) for index in trained], read_tools(record.get("tools")))


def _without_prompt(conversation: list[Any], prompt: list[Any]) -> list[Any]:
    """Return the answer, also where a whole conversation is written beside the prompt."""
    whole = len(conversation) > len(prompt) and conversation[: len(prompt)] == prompt
    return conversation[len(prompt) :] if whole else conversation


def _common_messages(chosen: list[Any], rejected: list[Any]) -> int:
    """Return how many messages both begin with, so that each keeps at least one of its own."""
    most = min(len(chosen), len(rejected)) - 1
    return next((index for index in range(most) if chosen[index] != rejected[index]), most)


def _common_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Divide two texts into what both begin with, up to the end of a word, and the rest of each."""
    shortest = min(len(chosen), len(rejected))
    differing = (place for place in range(shortest) if chosen[place] != rejected[place])
    common = chosen[: next(differing, shortest)]
    border = len(common.rstrip()) if common != common.rstrip() else max(common.rfind(" "), common.rfind("\n") + 1, 0)
    if not border or not chosen[border:].strip() or not rejected[border:].strip():
        raise RowError("chosen and rejected do not begin with the same prompt; add a column prompt")
    return chosen[:border], chosen[border:], rejected[border:]


def _label(value: Any, place: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, str) and value.strip()):
        return str(value)
    raise RowError(f"{place} is {kind_of(value)}; write the class as a string or a whole number")
