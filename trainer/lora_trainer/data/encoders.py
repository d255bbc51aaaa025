"""From checked rows to examples, one encoder a task: tokens, labels, and what is wrong with the rows that have none.

Pure apart from the tokenizer, which is called once for all rows of a call. Nothing is cut here: how long a row may be
is decided when all lengths are known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lora_trainer.data.chat import MarkedText, mark_chat, mark_text
from lora_trainer.data.examples import (
    CHOSEN,
    IGNORED,
    INPUT_IDS,
    LABELS,
    REJECTED,
    TARGET_IDS,
    Example,
    Examples,
    Int32,
    examples_of,
)
from lora_trainer.data.labels import LabelBook
from lora_trainer.data.masks import MarkedTokens, tokenize
from lora_trainer.data.rows import (
    ChatRow,
    ClassRow,
    InstructionRow,
    PairRow,
    Row,
    RowError,
    SourceRow,
    TagRow,
    TextRow,
)
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.tasks import TaskRules

NOTHING_LEARNED = "no token of it is learned; add an answer or drop it"


@dataclass
class Encoded:
    """What some rows have become."""

    examples: Examples
    kept: list[int]
    """Which of the rows have an example; the others teach nothing."""
    without_end: int = 0
    """Rows with an answer that no token ends."""
    complaints: list[tuple[int, str]] = field(default_factory=list)
    """Rows that cannot be learned, and why."""


Encoder = Callable[[Sequence[Row]], Callable[[], Encoded]]
"""Does at once what Python does, such as rendering, and returns what is left to do, most of it in the tokenizer. So the
rest of some rows can go on in a thread while the next ones begin."""


def encoder_of(rules: TaskRules, tokenizer: ChatTokenizer, labels: LabelBook, *, preference: bool) -> Encoder:
    """Return the encoder of a task. Class names go into `labels`, their numbers in it into the examples."""
    if preference:
        return lambda rows: encode_pairs(tokenizer, rows)
    encoders: dict[str, Encoder] = {
        "CAUSAL_LM": lambda rows: encode_language(tokenizer, rows),
        "SEQ_2_SEQ_LM": lambda rows: lambda: encode_sources(tokenizer, rows),
        "SEQ_CLS": lambda rows: lambda: encode_classes(tokenizer, rows, labels),
        "TOKEN_CLS": lambda rows: lambda: encode_tags(tokenizer, rows, labels),
    }
    return encoders[rules.peft_task]


def encode_language(tokenizer: ChatTokenizer, rows: Sequence[Row]) -> Callable[[], Encoded]:
    """Begin to make `input_ids` and `labels` of texts and conversations."""
    marked, complaints = _marked(tokenizer, rows)

    def finish() -> Encoded:
        tokens = _tokens(tokenizer, marked)
        examples = {index: _language_example(each) for index, each in tokens.items()}
        untaught = [(index, NOTHING_LEARNED) for index, each in examples.items() if not _learns(each[LABELS])]
        without_end = sum(not each.ends for each in tokens.values())
        return Encoded(examples_of(list(examples.values())), list(examples), without_end, complaints + untaught)

    return finish


def encode_pairs(tokenizer: ChatTokenizer, rows: Sequence[Row]) -> Callable[[], Encoded]:
    """Begin to make both sides of preference pairs. Equal sides have no example, as they teach nothing."""
    pairs = [row for row in rows if isinstance(row, PairRow)]
    sides = [
        _marked(tokenizer, texts) for texts in ([each.chosen for each in pairs], [each.rejected for each in pairs])
    ]
    complaints = [complaint for _, complaints in sides for complaint in complaints]
    return lambda: _encoded_pairs(tokenizer, pairs, [_tokens(tokenizer, marked) for marked, _ in sides], complaints)


def _encoded_pairs(
    tokenizer: ChatTokenizer,
    pairs: Sequence[PairRow],
    sides: Sequence[Mapping[int, MarkedTokens]],
    complaints: list[tuple[int, str]],
) -> Encoded:
    chosen, rejected = sides
    examples, without_end = {}, 0
    for index in chosen.keys() & rejected.keys():
        better, worse = _with_one_prompt(tokenizer, pairs[index], chosen[index], rejected[index])
        example = _side(CHOSEN, better) | _side(REJECTED, worse)
        if not (_learns(example[CHOSEN + LABELS]) and _learns(example[REJECTED + LABELS])):
            complaints.append((index, NOTHING_LEARNED))
        if better.ids != worse.ids:
            examples[index] = example
            without_end += not (better.ends and worse.ends)
    ordered = dict(sorted(examples.items()))
    first = dict(sorted(complaints, reverse=True))  # one complaint a row
    return Encoded(examples_of(list(ordered.values())), list(ordered), without_end, sorted(first.items()))


def encode_sources(tokenizer: ChatTokenizer, rows: Sequence[Row]) -> Encoded:
    """Return `input_ids` of sources and `target_ids` of targets, both with the end of sequence."""
    pairs = [row for row in rows if isinstance(row, SourceRow)]
    if not pairs:
        return Encoded(examples_of([]), [])
    sources = tokenizer.tokenizer([row.source for row in pairs])["input_ids"]
    targets = tokenizer.tokenizer(text_target=[row.target for row in pairs])["input_ids"]
    examples = [
        {INPUT_IDS: _ended(tokenizer, source), TARGET_IDS: _ended(tokenizer, target)}
        for source, target in zip(sources, targets, strict=True)
    ]
    return Encoded(examples_of(examples), list(range(len(pairs))))


def encode_classes(tokenizer: ChatTokenizer, rows: Sequence[Row], labels: LabelBook) -> Encoded:
    """Return `input_ids` of texts or pairs of texts, with special tokens, and one class in `labels`."""
    texts = [row for row in rows if isinstance(row, ClassRow)]
    ids: dict[int, list[int]] = {}
    for paired in (False, True):  # a call takes either texts or pairs
        chosen = [index for index, row in enumerate(texts) if (row.pair is not None) == paired]
        if chosen:
            second = [[texts[index].pair for index in chosen]] if paired else []
            encoded = tokenizer.tokenizer([texts[index].text for index in chosen], *second)
            ids |= dict(zip(chosen, encoded["input_ids"], strict=True))
    complaints = [(index, "text has no token; write a text") for index in range(len(texts)) if not ids[index]]
    examples = [{INPUT_IDS: ids[index], LABELS: [labels.number(row.label)]} for index, row in enumerate(texts)]
    return Encoded(examples_of(examples), list(range(len(texts))), complaints=complaints)


def encode_tags(tokenizer: ChatTokenizer, rows: Sequence[Row], labels: LabelBook) -> Encoded:
    """Return `input_ids` of words, with special tokens, and `labels`: a word's tag on its first token only.

    The words are one text, with spaces between them, as a model has seen words and will see them when it is asked.
    """
    texts = [row for row in rows if isinstance(row, TagRow)]
    encodings = tokenizer.encode([" ".join(row.words) for row in texts], special=True)
    examples, complaints = [], []
    for index, (row, encoding) in enumerate(zip(texts, encodings, strict=True)):
        tags = _tags_of_tokens(row, encoding, [labels.number(tag) for tag in row.tags])
        examples.append({INPUT_IDS: encoding.ids, LABELS: tags})
        if all(tag == IGNORED for tag in tags):
            complaints.append((index, "none of its tokens is a word for the tokenizer; drop the row"))
    return Encoded(examples_of(examples), list(range(len(texts))), complaints=complaints)


def tail_of(rules: TaskRules, tokenizer: ChatTokenizer) -> int:
    """Return how many tokens the tokenizer puts after a text; they stay at the end when a text is cut."""
    if rules.peft_task == "CAUSAL_LM":
        return 0
    special = tokenizer.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    added = next((place for place, each in enumerate(reversed(special)) if not each), len(special))
    # Where the tokenizer itself writes no end after a source, `encode_sources` does.
    return max(added, 1) if rules.peft_task == "SEQ_2_SEQ_LM" and tokenizer.end_id is not None else added


def _marked(tokenizer: ChatTokenizer, rows: Sequence[Row]) -> tuple[dict[int, MarkedText], list[tuple[int, str]]]:
    """Return the rows as text by their index, and the complaints about those that have none."""
    marked, complaints = {}, []
    for index, row in enumerate(rows):
        try:
            marked[index] = _mark(tokenizer, row)
        except RowError as error:
            complaints.append((index, str(error)))
    return marked, complaints


def _tokens(tokenizer: ChatTokenizer, marked: Mapping[int, MarkedText]) -> dict[int, MarkedTokens]:
    return dict(zip(marked, tokenize(tokenizer, list(marked.values())), strict=True))


def _mark(tokenizer: ChatTokenizer, row: Row) -> MarkedText:
    if isinstance(row, InstructionRow):
        row = _conversation(row) if tokenizer.has_template else _plain(row)
    if isinstance(row, TextRow):
        return mark_text(row)
    if not isinstance(row, ChatRow):
        raise TypeError(type(row).__name__)
    if not tokenizer.has_template:
        raise RowError(
            "it is a conversation, and the tokenizer of the base model has no chat template; "
            "use an instruct model, or rows with prompt and completion as strings"
        )
    return mark_chat(tokenizer, row)


def _conversation(row: InstructionRow) -> ChatRow:
    system = [{"role": "system", "content": row.system}] if row.system else []
    turns = [{"role": "user", "content": row.instruction}, {"role": "assistant", "content": row.output}]
    return ChatRow(system + turns, [len(system) + 1])


def _plain(row: InstructionRow) -> TextRow:
    asked = "\n\n".join(part for part in (row.system, row.instruction) if part)
    return TextRow(f"{asked}\n\n", row.output)


def _language_example(tokens: MarkedTokens) -> Example:
    ids = np.array(tokens.ids, np.int32)
    labels = np.full_like(ids, IGNORED)
    for run in tokens.runs:
        labels[run.start : run.stop] = ids[run.start : run.stop]
    labels[:1] = IGNORED  # the first token has no predecessor to be predicted from
    return {INPUT_IDS: ids, LABELS: labels}


def _side(prefix: str, tokens: MarkedTokens) -> Example:
    return {prefix + name: values for name, values in _language_example(tokens).items()}


def _learns(labels: Int32) -> bool:
    return bool((labels != IGNORED).any())


def _with_one_prompt(
    tokenizer: ChatTokenizer, pair: PairRow, chosen: MarkedTokens, rejected: MarkedTokens
) -> tuple[MarkedTokens, MarkedTokens]:
    """Return both sides with the same tokens before the answers.

    They differ where the last letters of a plain prompt and the first ones of an answer are one token. Then prompt and
    answer become tokens apart, as they are when an engine is asked.
    """
    before = [each.ids[: each.runs[0].start] if each.runs else [] for each in (chosen, rejected)]
    if before[0] == before[1] or not (isinstance(pair.chosen, TextRow) and isinstance(pair.rejected, TextRow)):
        return chosen, rejected
    texts = [pair.chosen.prompt, pair.chosen.completion, pair.rejected.completion]
    prompt, better, worse = (encoding.ids for encoding in tokenizer.encode(texts))
    return _joined(tokenizer, prompt, better), _joined(tokenizer, prompt, worse)


def _joined(tokenizer: ChatTokenizer, prompt: list[int], answer: list[int]) -> MarkedTokens:
    end = [tokenizer.end_id] if tokenizer.end_id is not None else []
    ids = [*tokenizer.begin_ids, *prompt, *answer, *end]
    return MarkedTokens(ids, (range(len(tokenizer.begin_ids) + len(prompt), len(ids)),), bool(end))


def _ended(tokenizer: ChatTokenizer, ids: list[int]) -> list[int]:
    end = tokenizer.end_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _tags_of_tokens(row: TagRow, encoding: Any, numbers: Sequence[int]) -> list[int]:
    lengths = np.asarray([len(word) + 1 for word in row.words])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    tags = [IGNORED] * len(encoding.ids)
    previous = -1
    for place, (start, end) in enumerate(encoding.offsets):
        if end <= start or encoding.special_tokens_mask[place]:
            continue
        # By its last character, as a token may have the space before its word too.
        word = int(np.searchsorted(starts, end - 1, side="right")) - 1
        if word != previous:
            tags[place] = numbers[word]
        previous = word
    return tags
