"""Masks: exactly the assistant's tokens and the one that ends them are learned, whatever the chat template."""

import pytest

from lora_trainer.data.chat import ChatTokenizer, mark_chat, mark_text, tokenize
from lora_trainer.data.rows import ChatRow, RowError, TextRow
from unit.trainer import tiny_tokenizer as tiny

TURNS = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
    {"role": "user", "content": "And of Spain?"},
    {"role": "assistant", "content": "Madrid."},
]
SYSTEM = {"role": "system", "content": "Be brief."}


def chat_row(messages, trained=None):
    assistants = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return ChatRow(7, messages, assistants if trained is None else trained)


def learned_runs(tokenizer, tokens):
    """Return the learned tokens as text, one string for each unbroken run."""
    runs, current = [], []
    for token, learned in zip([*tokens.ids, None], [*tokens.learned, False], strict=True):
        if learned:
            current.append(token)
        elif current:
            runs.append(tokenizer.decode(current))
            current = []
    return runs


def mask(template, specials, end, row, begin=None):
    fast = tiny.tiny_tokenizer(template, specials, end, begin)
    tokenizer = ChatTokenizer(fast)
    return fast, tokenize(tokenizer, [mark_chat(tokenizer, row)])[0]


CASES = {
    "chatml": (tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>", None, "<|im_end|>", ""),
    "chatml, another end of sequence": (tiny.CHATML, [*tiny.CHATML_SPECIALS], "<|endoftext|>", None, "<|im_end|>", ""),
    "llama 3": (
        tiny.LLAMA3,
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
        "",
    ),
    "mistral": (tiny.MISTRAL, [], "</s>", "<s>", "</s>", " "),
    "gemma": (tiny.GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<eos>", "<bos>", "<end_of_turn>", ""),
    "zephyr": (tiny.ZEPHYR, [], "</s>", None, "</s>", ""),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_answer_is_learned_with_its_end_token(case):
    template, specials, end, begin, stop, lead = CASES[case]
    fast, tokens = mask(template, specials, end, chat_row(TURNS), begin)
    assert learned_runs(fast, tokens) == [f"{lead}The capital of France is Paris.{stop}", f"{lead}Madrid.{stop}"]
    assert tokens.ends


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_before_an_answer_is_what_the_engine_will_be_asked_with(case):
    template, specials, end, begin, _, _ = CASES[case]
    fast, tokens = mask(template, specials, end, chat_row(TURNS[:2]), begin)
    prompt = fast.apply_chat_template(TURNS[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokens.ids[: tokens.learned.index(True)] == prompt


@pytest.mark.parametrize("case", ["chatml", "llama 3", "zephyr"])
def test_system_and_tool_messages_are_context(case):
    template, specials, end, begin, stop, _ = CASES[case]
    tool = {"role": "tool", "content": "The weather is sunny."}
    fast, tokens = mask(template, specials, end, chat_row([SYSTEM, *TURNS[:2], tool, TURNS[3]]), begin)
    assert learned_runs(fast, tokens) == [f"The capital of France is Paris.{stop}", f"Madrid.{stop}"]


def test_a_message_with_train_false_is_context():
    fast, tokens = mask(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>", chat_row(TURNS, trained=[3]))
    assert learned_runs(fast, tokens) == ["Madrid.<|im_end|>"]


def test_a_template_that_changes_earlier_turns_is_followed_by_a_marker():
    fast, tokens = mask(tiny.THINKING, [*tiny.CHATML_SPECIALS, "<think>", "</think>"], "<|im_end|>", chat_row(TURNS))
    # The last answer is asked for after "<think>\n", so what the template writes after that is learned too.
    assert learned_runs(fast, tokens) == [
        "The capital of France is Paris.<|im_end|>",
        "\n</think>\n\nMadrid.<|im_end|>",
    ]


def test_without_an_end_token_the_row_says_so():
    fast, tokens = mask(tiny.PLAIN, [], "<eos>", chat_row(TURNS[:2]))
    assert "The capital of France is Paris." in learned_runs(fast, tokens)[0]
    assert not tokens.ends


def test_a_token_across_the_border_belongs_to_the_answer():
    fast = tiny.tiny_tokenizer(tiny.PLAIN, [], "<eos>")
    fast.add_tokens([":The"])
    tokenizer = ChatTokenizer(fast)
    tokens = tokenize(tokenizer, [mark_chat(tokenizer, chat_row(TURNS[:2]))])[0]
    assert learned_runs(fast, tokens)[0].startswith(":The capital")


def test_a_template_that_refuses_the_roles_names_the_field():
    row = chat_row([TURNS[1], TURNS[0]])
    with pytest.raises(RowError, match=r"messages: the chat template .* \(roles must alternate\)"):
        mask(tiny.MISTRAL, [], "</s>", row, "<s>")


def test_a_template_that_hides_the_answer_is_an_error_and_not_a_guess():
    with pytest.raises(RowError, match=r"messages\[1\]: its text is not found"):
        mask(tiny.SHOUTING, [], "</s>", chat_row(TURNS))


def test_a_completion_is_learned_with_the_end_of_sequence():
    fast = tiny.tiny_tokenizer(None, [], "<eos>")
    tokens = tokenize(ChatTokenizer(fast), [mark_text(TextRow(1, "The capital of France is", " Paris."))])[0]
    assert learned_runs(fast, tokens) == [" Paris.<eos>"]
    assert fast.decode(tokens.ids) == "The capital of France is Paris.<eos>"


def test_a_batch_gives_what_single_rows_give():
    fast = tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>")
    tokenizer = ChatTokenizer(fast)
    marked = [mark_chat(tokenizer, chat_row(TURNS)), mark_chat(tokenizer, chat_row(TURNS[:2]))]
    assert tokenize(tokenizer, marked) == [tokenize(tokenizer, [each])[0] for each in marked]
