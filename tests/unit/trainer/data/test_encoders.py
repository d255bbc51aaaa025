"""Examples of every task: which tokens, which labels, and what is said of rows without any."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.data.encoders import (
    encode_classes,
    encode_language,
    encode_pairs,
    encode_sources,
    encode_tags,
    tail_of,
)
from lora_trainer.data.examples import IGNORED
from lora_trainer.data.labels import LabelBook
from lora_trainer.data.rows import ChatRow, ClassRow, InstructionRow, PairRow, SourceRow, TagRow, TextRow
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.errors import TrainerError
from lora_trainer.tasks import rules_of
from support.specs import SMALLEST
from unit.trainer import tiny_tokenizer as tiny
from unit.trainer.data.masks import assistant, chat_row, user

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "ada", "lives", "in", "paris", "un", "##happy"]


def bert():
    """A tokenizer of words and their parts, with special tokens around a text, as encoders have it."""
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return ChatTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named))


def chatml():
    return ChatTokenizer(tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>"))


def plain(begin=None):
    return ChatTokenizer(tiny.tiny_tokenizer(None, [], "<eos>", begin))


def texts(tokenizer, example, prefix=""):
    """Return all tokens of an example, and the learned ones, as text."""
    ids, labels = example[f"{prefix}input_ids"], example[f"{prefix}labels"]
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return tokenizer.tokenizer.decode(ids), tokenizer.tokenizer.decode(ids[labels != IGNORED])


def rules(task, objective="SFT"):
    return rules_of(LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective}))


def test_a_conversation_has_its_tokens_as_labels_where_they_are_learned():
    tokenizer = chatml()
    encoded = encode_language(tokenizer, [chat_row([user("Hi"), assistant("Hello.")])])()
    whole, learned = texts(tokenizer, encoded.examples[0])
    assert whole == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    assert learned == "Hello.<|im_end|>"
    assert (encoded.kept, encoded.without_end, encoded.complaints) == ([0], 0, [])


def test_a_completion_is_learned_with_the_end_of_sequence():
    tokenizer = plain()
    encoded = encode_language(tokenizer, [TextRow("The capital of France is", " Paris.")])()
    assert texts(tokenizer, encoded.examples[0]) == ("The capital of France is Paris.<eos>", " Paris.<eos>")


def test_of_a_plain_text_all_but_the_first_token_is_learned():
    tokenizer = plain()
    example = encode_language(tokenizer, [TextRow("", "Paris is it.")])().examples[0]
    assert example["labels"][0] == IGNORED  # nothing comes before it
    assert example["labels"][1:].tolist() == example["input_ids"][1:].tolist()
    assert example["input_ids"][-1] == tokenizer.end_id


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (
            chatml(),
            "<|im_start|>{}<|im_end|>\n<|im_start|>{}<|im_end|>\n<|im_start|>{}<|im_end|>\n".format(
                "system\nBe brief.", "user\nAdd", "assistant\n3"
            ),
        ),
        (plain(), "Be brief.\n\nAdd\n\n3<eos>"),
    ],
)
def test_an_instruction_is_a_conversation_where_there_is_a_template_and_a_text_elsewhere(tokenizer, expected):
    encoded = encode_language(tokenizer, [InstructionRow("Be brief.", "Add", "3")])()
    whole, learned = texts(tokenizer, encoded.examples[0])
    assert whole == expected
    assert learned in ("3<|im_end|>", "3<eos>")


def test_rows_that_cannot_be_learned_are_told_by_their_place():
    rows = [chat_row([user("Hi"), assistant("Hello.")])] * 2
    faults = encode_language(plain(), rows)().complaints
    assert [place for place, _ in faults] == [0, 1]
    assert "the tokenizer of the base model has no chat template" in faults[0][1]


def test_a_row_without_a_learned_token_is_told():
    silent = ChatRow([user("Hi"), assistant("Hello.")], [])
    encoded = encode_language(chatml(), [silent])()
    assert encoded.complaints == [(0, "no token of it is learned; add an answer or drop it")]


def test_both_answers_of_a_pair_follow_the_same_prompt_and_are_learned_with_their_end():
    tokenizer = chatml()
    pair = PairRow(chat_row([user("Hi"), assistant("Hello.")]), chat_row([user("Hi"), assistant("No, thanks.")]))
    example = encode_pairs(tokenizer, [pair])().examples[0]
    assert texts(tokenizer, example, "chosen_")[1] == "Hello.<|im_end|>"
    assert texts(tokenizer, example, "rejected_")[1] == "No, thanks.<|im_end|>"


@pytest.mark.parametrize("begin", [None, "<bos>"])
def test_the_prompt_of_a_pair_has_the_same_tokens_on_both_sides_where_letters_would_join(begin):
    tokenizer = plain(begin)
    tokenizer.tokenizer.add_tokens(["is Par"])  # joins the prompt with one of the answers
    pair = PairRow(TextRow("The capital is", " Paris."), TextRow("The capital is", " Madrid."))
    example = encode_pairs(tokenizer, [pair])().examples[0]
    prompts = [
        example[f"{side}_input_ids"][example[f"{side}_labels"] == IGNORED].tolist() for side in ("chosen", "rejected")
    ]
    assert prompts[0] == prompts[1]
    assert texts(tokenizer, example, "chosen_")[1] == " Paris.<eos>"
    assert texts(tokenizer, example, "rejected_")[1] == " Madrid.<eos>"


def test_a_pair_of_equal_sides_teaches_nothing_and_is_left_out():
    same, other = TextRow("a", " b"), TextRow("a", " c")
    encoded = encode_pairs(plain(), [PairRow(same, same), PairRow(same, other)])()
    assert (encoded.kept, len(encoded.examples), encoded.complaints) == ([1], 1, [])


def test_a_source_and_its_target_end_with_the_end_of_sequence():
    tokenizer = plain()
    example = encode_sources(tokenizer, [SourceRow("Hi", "Bye")]).examples[0]
    assert tokenizer.tokenizer.decode(example["input_ids"]) == "Hi<eos>"
    assert tokenizer.tokenizer.decode(example["target_ids"]) == "Bye<eos>"


def test_a_classified_text_has_special_tokens_and_one_class():
    book = LabelBook()
    rows = [ClassRow("ada lives", None, "good"), ClassRow("ada", "paris", "bad"), ClassRow("in", None, "good")]
    examples = encode_classes(bert(), rows, book).examples
    assert [examples[index]["input_ids"].tolist() for index in range(3)] == [[1, 4, 5, 2], [1, 4, 2, 7, 2], [1, 6, 2]]
    assert [examples[index]["labels"].tolist() for index in range(3)] == [[0], [1], [0]]
    assert book.names == ["good", "bad"]


def test_a_tag_is_learned_on_the_first_token_of_its_word():
    book = LabelBook()
    rows = [TagRow(["ada", "unhappy", "paris"], ["B-PER", "O", "B-LOC"])]
    example = encode_tags(bert(), rows, book).examples[0]
    assert example["input_ids"].tolist() == [1, 4, 8, 9, 7, 2]
    assert example["labels"].tolist() == [IGNORED, 0, 1, IGNORED, 2, IGNORED]
    assert book.names == ["B-PER", "O", "B-LOC"]


def test_words_have_a_space_before_them_as_in_any_text():
    tokenizer = plain()
    example = encode_tags(tokenizer, [TagRow(["The", "weather", "", "is", "it"], list("abcde"))], LabelBook()).examples[
        0
    ]
    tagged = example["labels"] != IGNORED
    assert tokenizer.tokenizer.decode(example["input_ids"]) == "The weather  is it"
    assert example["labels"][tagged].tolist() == [0, 1, 3, 4]  # a word without letters has no token


@pytest.mark.parametrize(
    ("task", "tokenizer", "tail"),
    [
        ("CausalLM", bert(), 0),
        ("SequenceClassification", bert(), 1),
        ("SequenceClassification", plain(), 0),
        ("Seq2SeqLM", plain(), 1),
    ],
)
def test_what_a_tokenizer_puts_after_a_text_is_known(task, tokenizer, tail):
    assert tail_of(rules(task), tokenizer) == tail


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(TrainerError, match="is a slow one") as caught:
        ChatTokenizer(Slow())
    assert caught.value.hint == "put the tokenizer.json of the model beside its config.json"
