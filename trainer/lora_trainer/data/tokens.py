"""The tokenizer of a base model, as far as data needs one: texts to tokens, conversations to text.

The same rows give the same text on any day: a template that asks for the date is told a fixed one. Rows of one day
would otherwise differ from those of the next, and a preflight from its training.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from lora_trainer.data.rows import ChatRow, Message, RowError
from lora_trainer.errors import invalid_request

# Names of tokens that end a turn in the common templates. The tokenizer's own end of sequence is added to them.
_TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|endoftext|>", "</s>",
    "<|END_OF_TURN_TOKEN|>", "<|return|>", "<|call|>", "<|end_of_text|>", "<|user_end|>", "<|eot|>",
)  # fmt: skip
TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)

_DAY = {"%Y": "2025", "%y": "25", "%m": "01", "%d": "01", "%B": "January", "%b": "Jan", "%A": "Wednesday", "%a": "Wed"}
_TIME = {"%H": "12", "%M": "00", "%S": "00"}
_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f' | replace("{code}", "{value}")' for code, value in (_DAY | _TIME).items())
    + " }}{% endmacro +%}"  # the plus keeps a line break after it
)


class ChatTokenizer:
    """A tokenizer of transformers. Raises 64 for one that does not say which characters a token stands for."""

    def __init__(self, tokenizer: Any, extra_end_ids: Iterable[int] = ()) -> None:
        if not tokenizer.is_fast:
            raise invalid_request(
                "spec.baseModel.uri: the tokenizer of the base model is a slow one, without offsets",
                "put the tokenizer.json of the model beside its config.json",
            )
        self.tokenizer = tokenizer
        self.end_id: int | None = tokenizer.eos_token_id
        vocabulary = tokenizer.get_vocab()
        named = {vocabulary[name] for name in _TURN_ENDS if name in vocabulary}
        self.end_ids = frozenset(named | set(extra_end_ids) | ({self.end_id} if self.end_id is not None else set()))
        empty = tokenizer("")["input_ids"]  # this also ends the cutting and padding that some files ask for
        begins = tokenizer.bos_token_id is not None and empty[:1] == [tokenizer.bos_token_id]
        self.begin_ids: list[int] = empty[:1] if begins else []
        """What the tokenizer puts before plain text; a chat template writes its own."""
        self._templates: dict[bool, str] = {}

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return bool(self.tokenizer.chat_template)

    def render(self, messages: Sequence[Message], tools: list[Any] | None, *, prompt: bool = False) -> str:
        """Return the conversation as text; with `prompt`, up to where the assistant would speak next."""
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tools=tools,
                chat_template=self._template(tools),
                tokenize=False,
                add_generation_prompt=prompt,
            )
        )

    def render_row(self, row: ChatRow) -> str:
        """Return a whole conversation as text; `RowError` where the template refuses it."""
        try:
            return self.render(row.messages, row.tools)
        except TEMPLATE_FAULTS as error:
            fault = str(error)[:200] if isinstance(error, TemplateError) else type(error).__name__
            raise RowError(
                f"messages: the chat template of the base model refuses them ({fault}); change the roles"
            ) from None

    def encode(self, texts: list[str], *, special: bool = False) -> list[Any]:
        """Return the tokens of texts as `tokenizers.Encoding`, which knows each token's characters.

        With `special`, those tokens are among them that the tokenizer puts around a text.
        """
        encoded: list[Any] = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=special)
        return encoded

    @cached_property
    def header(self) -> str | None:
        """What the template writes before an answer, if that is the same after any question."""
        question = [{"role": "user", "content": "a"}]
        try:
            plain, asked = self.render(question, None), self.render(question, None, prompt=True)
        except TEMPLATE_FAULTS:
            return None
        return asked[len(plain) :] or None if asked.startswith(plain) else None

    @cached_property
    def end_pattern(self) -> re.Pattern[str]:
        """A token that ends a turn, with the white space before it."""
        names = self.tokenizer.convert_ids_to_tokens(sorted(self.end_ids))
        return re.compile(r"\s*(?:" + "|".join(re.escape(name) for name in names if name) + ")")

    def _template(self, tools: list[Any] | None) -> str:
        with_tools = tools is not None  # some tokenizers have a template for these
        if with_tools not in self._templates:
            template: str = self.tokenizer.get_chat_template(None, tools)
            self._templates[with_tools] = _DATE_MACRO + template if "strftime_now" in template else template
        return self._templates[with_tools]
