"""Masks: exactly the assistant's tokens and the one that ends them are learned, whatever the chat template."""

import pytest

from lora_trainer.data.chat import mark_chat, mark_text
from lora_trainer.data.masks import tokenize
from lora_trainer.data.rows import RowError, TextRow
from lora_trainer.data.tokens import ChatTokenizer
from unit.trainer import tiny_tokenizer as tiny
from unit.trainer.data.masks import assistant, chat_row, learned_texts, tokens_of, user

TURNS = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
    {"role": "user", "content": "And of Spain?"},
    {"role": "assistant", "content": "Madrid."},
]
SYSTEM = {"role": "system", "content": "Be brief."}


def mask(template, specials, end, row, begin=None):
    fast = tiny.tiny_tokenizer(template, specials, end, begin)
    return fast, tokens_of(fast, row)


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
    assert learned_texts(fast, tokens) == [f"{lead}The capital of France is Paris.{stop}", f"{lead}Madrid.{stop}"]
    assert tokens.ends


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_before_an_answer_is_what_the_engine_will_be_asked_with(case):
    template, specials, end, begin, _, _ = CASES[case]
    fast, tokens = mask(template, specials, end, chat_row(TURNS[:2]), begin)
    prompt = fast.apply_chat_template(TURNS[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokens.ids[: tokens.runs[0].start] == prompt


@pytest.mark.parametrize("case", ["chatml", "llama 3", "zephyr"])
def test_system_and_tool_messages_are_context(case):
    template, specials, end, begin, stop, _ = CASES[case]
    tool = {"role": "tool", "content": "The weather is sunny."}
    fast, tokens = mask(template, specials, end, chat_row([SYSTEM, *TURNS[:2], tool, TURNS[3]]), begin)
    assert learned_texts(fast, tokens) == [f"The capital of France is Paris.{stop}", f"Madrid.{stop}"]


def test_a_message_with_train_false_is_context():
    fast, tokens = mask(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>", chat_row(TURNS, trained=[3]))
    assert learned_texts(fast, tokens) == ["Madrid.<|im_end|>"]


def test_a_template_that_changes_earlier_turns_is_followed_by_a_marker():
    fast, tokens = mask(tiny.THINKING, [*tiny.CHATML_SPECIALS, "<think>", "</think>"], "<|im_end|>", chat_row(TURNS))
    # The last answer is asked for after "<think>\n", so what the template writes after that is learned too.
    assert learned_texts(fast, tokens) == [
        "The capital of France is Paris.<|im_end|>",
        "\n</think>\n\nMadrid.<|im_end|>",
    ]


def test_without_an_end_token_the_row_says_so():
    fast, tokens = mask(tiny.PLAIN, [], "<eos>", chat_row(TURNS[:2]))
    assert "The capital of France is Paris." in learned_texts(fast, tokens)[0]
    assert not tokens.ends


def test_a_token_across_the_border_belongs_to_the_answer():
    fast = tiny.tiny_tokenizer(tiny.PLAIN, [], "<eos>")
    fast.add_tokens([":The"])
    assert learned_texts(fast, tokens_of(fast, chat_row(TURNS[:2])))[0].startswith(":The capital")


def test_a_template_that_refuses_the_roles_names_the_field():
    row = chat_row([TURNS[1], TURNS[0]])
    with pytest.raises(RowError, match=r"messages: the chat template .* \(roles must alternate\)"):
        mask(tiny.MISTRAL, [], "</s>", row, "<s>")


def test_a_template_that_hides_the_answer_is_an_error_and_not_a_guess():
    with pytest.raises(RowError, match=r"messages\[1\]: its text is not found"):
        mask(tiny.SHOUTING, [], "</s>", chat_row(TURNS))


def test_a_completion_is_learned_with_the_end_of_sequence():
    fast = tiny.tiny_tokenizer(None, [], "<eos>")
    tokens = tokenize(ChatTokenizer(fast), [mark_text(TextRow("The capital of France is", " Paris."))])[0]
    assert learned_texts(fast, tokens) == [" Paris.<eos>"]
    assert fast.decode(tokens.ids) == "The capital of France is Paris.<eos>"


def test_a_batch_gives_what_single_rows_give():
    fast = tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>")
    tokenizer = ChatTokenizer(fast)
    marked = [mark_chat(tokenizer, chat_row(TURNS)), mark_chat(tokenizer, chat_row(TURNS[:2]))]
    assert tokenize(tokenizer, marked) == [tokenize(tokenizer, [each])[0] for each in marked]


def rendered(fast, row, monkeypatch):
    """Return how many times a row is rendered, once the tokenizer is known."""
    tokenizer = ChatTokenizer(fast)
    mark_chat(tokenizer, row)
    calls = []
    render = fast.apply_chat_template
    monkeypatch.setattr(fast, "apply_chat_template", lambda *args, **more: calls.append(1) or render(*args, **more))
    mark_chat(tokenizer, row)
    return len(calls)


def test_a_plain_conversation_is_rendered_once_however_long_it_is(monkeypatch):
    fast = tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>")
    assert rendered(fast, chat_row(TURNS * 8), monkeypatch) == 1


def test_an_answer_that_is_found_by_its_prefix_takes_one_rendering_more(monkeypatch):
    fast = tiny.tiny_tokenizer(tiny.MISTRAL, [], "</s>", "<s>")  # writes no header before an answer
    assert rendered(fast, chat_row(TURNS[:2]), monkeypatch) == 2
    assert rendered(fast, chat_row(TURNS), monkeypatch) == 1 + 2 + 1


@pytest.mark.parametrize(
    "answer",
    [
        "<|im_start|>assistant\nfake",
        "  spaces around  ",
        "says <|im_end|> itself",
        "Paris is it.",
        "\n\nlines\n\n",
        "🦓🦓",
    ],
)
def test_the_shortest_way_finds_what_the_prefixes_say(answer, monkeypatch):
    """The first way may only be a shorter one: without it, the same tokens are learned."""
    row = chat_row([user("<|im_start|>assistant\n?"), assistant(answer), user("Paris is it."), assistant("Yes")])
    fast = tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>")
    found = tokens_of(fast, row)
    monkeypatch.setattr(ChatTokenizer, "header", None)
    assert found == tokens_of(fast, row)


def test_a_question_that_quotes_the_header_of_answers_is_no_answer():
    fast = tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>")
    row = chat_row([user("<|im_start|>assistant\nYes<|im_end|>"), assistant("No")])
    assert learned_texts(fast, tokens_of(fast, row)) == ["No<|im_end|>"]


def test_characters_of_several_tokens_lie_on_their_side_of_the_border():
    fast = tiny.tiny_tokenizer(None, [], "<eos>")
    tokens = tokenize(ChatTokenizer(fast), [mark_text(TextRow("zebra 🦓", "🦓!"))])[0]
    assert learned_texts(fast, tokens) == ["🦓!<eos>"]


DATED = "{{ strftime_now('%d %b %Y') }}" + tiny.CHATML


def test_a_template_that_asks_for_the_date_gets_the_same_on_any_day():
    fast = tiny.tiny_tokenizer(DATED, tiny.CHATML_SPECIALS, "<|im_end|>")
    tokens = tokens_of(fast, chat_row(TURNS[:2]))
    assert fast.decode(tokens.ids).startswith("01 Jan 2025<|im_start|>user")


def test_a_line_break_at_the_start_of_a_dated_template_stays():
    fast = tiny.tiny_tokenizer("\n" + DATED, tiny.CHATML_SPECIALS, "<|im_end|>")
    assert fast.decode(tokens_of(fast, chat_row(TURNS[:2])).ids).startswith("\n01 Jan 2025")
