"""Golden masks: on the templates of real models, what is learned is what the training templates of TRL mark.

TRL keeps, beside each model's own template, one with `{% generation %}` marks made by hand. Ours sees the model's own
only. Two differences are on purpose, and named for each family: white space after the token that ends an answer is
never generated, so it is not learned; and what the template puts before an answer when the engine asks for one
(`asked_with`) is not generated either, where TRL marks a part of it.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import trl

from lora_trainer.data.rows import RowError
from unit.trainer.data.masks import assistant, chat_row, learned_texts, runs_of_mask, tokens_of, user
from unit.trainer.tiny_tokenizer import tiny_tokenizer

TEMPLATES = Path(trl.__file__).parent / "chat_templates"

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city"}}},
        },
    }
]
CONVERSATIONS = {
    "one turn": [user("Hi"), assistant("Hello there.")],
    "two turns": [user("And of France?"), assistant("Paris is it."), user("And of Spain?"), assistant("Madrid.")],
    "system": [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello there.")],
    "thoughts": [user("Hi"), assistant("Hello.", reasoning_content="They greet.")],
    "tools": [
        user("Is it sunny?"),
        assistant("", tool_calls=[CALL]),
        {"role": "tool", "content": "sunny", "name": "weather"},
        assistant("It is sunny."),
    ],
}
PLAIN = ("one turn", "two turns", "system")
CHATML = ("<|im_start|>", "<|im_end|>")
COHERE = (
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
    "<|START_RESPONSE|>", "<|END_RESPONSE|>",
)  # fmt: skip
BAR = "\N{FULLWIDTH VERTICAL LINE}"
DEEPSEEK = (f"<{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>", "<think>", "</think>")
DEEPSEEK_ENDS = (f"<{BAR}end▁of▁sentence{BAR}>", f"<{BAR}begin▁of▁sentence{BAR}>")


@dataclass(frozen=True)
class Family:
    specials: tuple[str, ...]
    end: str
    begin: str | None = None
    asked_with: str = ""
    conversations: tuple[str, ...] = PLAIN
    says_the_date: bool = False


FAMILIES = {
    "llama3": Family(("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>", "<|begin_of_text|>"),
    "qwen2_5": Family(CHATML, "<|im_end|>", asked_with="\n", conversations=(*PLAIN, "tools")),
    # Of two turns TRL's template keeps the thoughts of both, and the model's own those of the last.
    "qwen3": Family(
        (*CHATML, "<think>", "</think>"), "<|im_end|>", conversations=("one turn", "system", "thoughts")
    ),
    "qwen3_instruct_2507": Family(CHATML, "<|im_end|>", conversations=(*PLAIN, "tools")),
    "qwen3_5_think": Family(
        (*CHATML, "<think>", "</think>"),
        "<|im_end|>",
        asked_with="<think>\n",
        conversations=("one turn", "system", "thoughts", "tools"),
    ),
    "qwen3_5_nothink": Family(
        (*CHATML, "<think>", "</think>"),
        "<|im_end|>",
        asked_with="<think>\n\n</think>\n\n",
        conversations=("one turn", "system", "tools"),
    ),
    "gemma": Family(("<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>", conversations=("one turn", "two turns")),
    "gemma3": Family(("<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>"),
    "phi3": Family(("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>"),
    "phi3_5": Family(("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>"),
    "cohere": Family(COHERE, "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>"),
    "cohere2": Family(COHERE, "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>"),
    "deepseekv3": Family(DEEPSEEK, *DEEPSEEK_ENDS, asked_with=DEEPSEEK[1]),
    "deepseek_r1_distill": Family(DEEPSEEK, *DEEPSEEK_ENDS, asked_with=DEEPSEEK[1]),
    "gptoss": Family(
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        "<|return|>",
        asked_with="<|start|>assistant",
        conversations=(*PLAIN, "thoughts", "tools"),
        says_the_date=True,
    ),
    "lfm2": Family(CHATML, "<|im_end|>", "<|startoftext|>"),
}  # fmt: skip
CASES = [(name, conversation) for name, family in FAMILIES.items() for conversation in family.conversations]


def tokenizer_of(name, family):
    template = (TEMPLATES / f"{name}.jinja").read_text()
    return tiny_tokenizer(template, list(family.specials), family.end, family.begin)


def marked_by_trl(name, family, messages, tools):
    oracle = tokenizer_of(f"{name}_training", family)
    found = oracle.apply_chat_template(messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True)
    runs = runs_of_mask(found["input_ids"], found["assistant_masks"])
    texts = [oracle.decode(found["input_ids"][run.start : run.stop]) for run in runs]
    return found["input_ids"], [text.removeprefix(family.asked_with).rstrip() for text in texts]


@pytest.mark.parametrize(("name", "conversation"), CASES)
def test_what_is_learned_is_what_trl_marks(name, conversation):
    family, messages = FAMILIES[name], CONVERSATIONS[conversation]
    tools = TOOLS if conversation == "tools" else None
    fast = tokenizer_of(name, family)
    tokens = tokens_of(fast, chat_row(messages, tools=tools))
    expected_ids, expected_texts = marked_by_trl(name, family, messages, tools)
    assert learned_texts(fast, tokens) == expected_texts
    assert tokens.ends
    if not family.says_the_date:  # which is fixed here, and that of today there
        assert tokens.ids == expected_ids


def test_earlier_thoughts_that_a_template_drops_are_not_learned():
    fast = tokenizer_of("qwen3", FAMILIES["qwen3"])
    row = chat_row([user("Hi"), assistant("<think>\nHm.\n</think>\n\nHello."), user("And?"), assistant("No.")])
    assert learned_texts(fast, tokens_of(fast, row)) == ["Hello.<|im_end|>", "<think>\n\n</think>\n\nNo.<|im_end|>"]


def test_a_tool_call_that_is_not_the_last_message_is_learned_although_the_template_thinks_only_there():
    fast = tokenizer_of("qwen3", FAMILIES["qwen3"])
    tokens = tokens_of(fast, chat_row(CONVERSATIONS["tools"], tools=TOOLS))
    call, answer = learned_texts(fast, tokens)
    assert call.startswith('<tool_call>\n{"name": "weather"')
    assert call.endswith("</tool_call><|im_end|>")
    assert answer == "<think>\n\n</think>\n\nIt is sunny.<|im_end|>"


def test_the_next_turn_ends_an_answer_where_the_config_of_the_model_says_so():
    specials = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "[gMASK]", "<sop>")
    fast = tokenizer_of("glm4moe", Family(specials, "<|endoftext|>"))
    stops = fast.convert_tokens_to_ids(["<|user|>", "<|observation|>"])
    tokens = tokens_of(fast, chat_row(CONVERSATIONS["two turns"]), stops)
    first, last = learned_texts(fast, tokens)
    assert first == "\n<think></think>\nParis is it.<|user|>"
    assert last == "\n<think></think>\nMadrid."  # no turn follows in the model's own template
    assert not tokens.ends


@pytest.mark.parametrize("name", ["llama3", "lfm2"])
def test_a_template_without_tool_calls_is_an_error_and_not_an_empty_answer(name):
    fast = tokenizer_of(name, FAMILIES[name])
    with pytest.raises(RowError, match=r"messages\[1\]\.tool_calls: the chat template .* leaves them out"):
        tokens_of(fast, chat_row(CONVERSATIONS["tools"], tools=TOOLS))


def test_a_template_that_drops_the_content_is_an_error():
    fast = tokenizer_of("smolvlm", Family(("<end_of_utterance>", "<|im_start|>"), "<end_of_utterance>"))
    with pytest.raises(RowError, match=r"messages\[1\]: the chat template of the base model changes its content"):
        tokens_of(fast, chat_row(CONVERSATIONS["one turn"]))
