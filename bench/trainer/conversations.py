"""Conversations like those that people collect, made up: a few words or many, lognormal in length.

Their tokens and masks come from the tokenizer's own chat template and from nothing of this project, as they are what
all contenders are given.
"""

import random
from collections.abc import Sequence
from typing import Any

from bench.trainer.workload import Rows

IGNORED = -100
_MEDIAN_WORDS = 180
_SPREAD = 0.6
_ANSWER_SHARE = 0.65
_FIRST_WORD = 8
"""Tokens before it have a meaning of their own, such as padding."""
_STORY = (
    "the customer asked about an order that was sent on Monday and did not arrive before the end of the week so we "
    "looked for it with the carrier found that its address was wrong changed it called back to say when it comes "
    "offered a refund or a new one which they took because price and quality are good they wrote later thank you all"
)
_WORDS = _STORY.split()

Conversation = dict[str, list[dict[str, str]]]


def conversations(count: int, seed: int, *, turns: tuple[int, ...] = (1,), median: int = _MEDIAN_WORDS) -> list[Any]:
    """Return `count` rows of `messages`, with as many questions and answers as one of `turns`."""
    draw = random.Random(seed)  # noqa: S311 - data, no secret
    return [_conversation(draw, draw.choice(turns), median) for _ in range(count)]


def chat_rows(tokenizer: Any, count: int, seed: int, max_length: int, *, median: int = _MEDIAN_WORDS) -> Rows:
    """Return rows of one question and its answer, of which the answer is learned; cut at `max_length` tokens."""
    rows = []
    for each in conversations(count, seed, median=median):
        messages = each["messages"]
        prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        labels = [IGNORED] * len(prompt) + whole[len(prompt) :]
        rows.append({"input_ids": whole[:max_length], "labels": labels[:max_length]})
    return rows


def counting_rows(lengths: Sequence[int], vocabulary: int, seed: int) -> Rows:
    """Return rows that a model of any vocabulary can learn: each counts up by a step of its own."""
    draw = random.Random(seed)  # noqa: S311 - data, no secret
    rows = []
    for length in lengths:
        start, step = draw.randrange(vocabulary), draw.randint(1, 3)
        ids = [_FIRST_WORD + (start + step * place) % (vocabulary - _FIRST_WORD) for place in range(length)]
        rows.append({"input_ids": ids, "labels": ids})
    return rows


def chat_lengths(count: int, seed: int, max_length: int, median: int) -> list[int]:
    """Return lengths in tokens that follow the same law."""
    draw = random.Random(seed)  # noqa: S311 - data, no secret
    return [min(max_length, max(8, round(draw.lognormvariate(0, _SPREAD) * median))) for _ in range(count)]


def _conversation(draw: random.Random, turns: int, median: int) -> Conversation:
    words = draw.lognormvariate(0, _SPREAD) * median / turns
    messages = []
    for _ in range(turns):
        answer = max(2, round(words * _ANSWER_SHARE))
        messages.append({"role": "user", "content": _text(draw, max(2, round(words) - answer))})
        messages.append({"role": "assistant", "content": _text(draw, answer)})
    return {"messages": messages}


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=words)).capitalize() + "."
