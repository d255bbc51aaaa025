"""Shapes of models for a GPU: random weights in files like real ones, and what a token costs to compute.

Speed and memory do not depend on what the weights are, so nothing is downloaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORDS = 64


@dataclass(frozen=True)
class Shape:
    """A Llama."""

    layers: int
    hidden: int
    inner: int
    heads: int
    key_value_heads: int
    vocabulary: int

    @property
    def config(self) -> dict[str, Any]:
        """As config.json has it."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": False,
        }

    @property
    def _matrices(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one layer."""
        keys = self.hidden // self.heads * self.key_value_heads
        attention = [(self.hidden, self.hidden), (self.hidden, keys), (self.hidden, keys), (self.hidden, self.hidden)]
        return [*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    @property
    def linear(self) -> int:
        """Weights of all linear layers but the output layer."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self._matrices)

    @property
    def head(self) -> int:
        """Weights of the output layer."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of all: also embeddings and norms."""
        return self.linear + 2 * self.head + (2 * self.layers + 1) * self.hidden

    def adapter(self, rank: int) -> int:
        """Return the weights of an adapter on all linear layers."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self._matrices)


SHAPES = {
    "llama-8b": Shape(32, 4096, 14_336, heads=32, key_value_heads=8, vocabulary=128_256),
    "llama-1b": Shape(16, 2048, 8192, heads=32, key_value_heads=8, vocabulary=128_256),
    "tiny": Shape(2, 64, 128, heads=4, key_value_heads=2, vocabulary=1024),
}


def flops_a_token(shape: Shape, length: float, rank: int) -> float:
    """Return the FLOPs that training needs for a token of a row of `length` tokens.

    Forward and the gradients of activations take two a weight each, and no weight of the base has a gradient: 4N.
    Attention sees half the row on average: 2 * length * hidden a layer forward and twice that backward. Of the adapter
    there are gradients too: 6 a weight. What is computed again to save memory is not needed, and not counted.
    """
    attention = 2 * length * shape.hidden * shape.layers
    return 4 * (shape.linear + shape.head) + 3 * attention + 6 * shape.adapter(rank)


def make_model(request: dict[str, Any]) -> Shape:
    """Save a model of a shape with random weights and a tokenizer of a few words. Runs in a process of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, folder = SHAPES[request["shape"]], Path(request["folder"])
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, request["dtype"]))
    with torch.device(request["device"]):
        model = LlamaForCausalLM(LlamaConfig(**shape.config, bos_token_id=1, eos_token_id=2, pad_token_id=0))
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return shape


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {f"w{number}": number for number in range(4, _WORDS)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106 - a token of text
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)
