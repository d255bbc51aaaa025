"""What a row becomes under a chat template, as text a person can compare."""

from lora_trainer.data.chat import mark_chat
from lora_trainer.data.masks import tokenize
from lora_trainer.data.rows import ChatRow
from lora_trainer.data.tokens import ChatTokenizer


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def chat_row(messages, trained=None, tools=None):
    assistants = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return ChatRow(messages, assistants if trained is None else trained, tools)


def tokens_of(fast, row, end_ids=()):
    tokenizer = ChatTokenizer(fast, end_ids)
    return tokenize(tokenizer, [mark_chat(tokenizer, row)])[0]


def learned_texts(fast, tokens):
    """Return the learned tokens as text, one string for each run."""
    return [fast.decode(tokens.ids[run.start : run.stop]) for run in tokens.runs]


def runs_of_mask(ids, mask):
    """Return the ranges of a mask of ones and zeros."""
    padded = [0, *mask, 0]
    starts = [place for place in range(len(ids)) if padded[place + 1] and not padded[place]]
    stops = [place for place in range(1, len(ids) + 1) if padded[place] and not padded[place + 1]]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
