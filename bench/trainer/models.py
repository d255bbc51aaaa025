"""The base models: a real one, and small ones with random weights."""

from pathlib import Path
from typing import Any

from demo.model import exported_model

TOY_VOCABULARY = 1000


def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct, made from its package the first time."""
    return exported_model()


def tokenizer_of(folder: Path) -> Any:
    """Return the tokenizer of a model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def small_model(folder: Path, *, layers: int, hidden: int, vocabulary: int | None = None) -> Path:
    """Save a Llama with random weights and the tokenizer of SmolLM2, and return the folder.

    Its vocabulary is the tokenizer's, unless a smaller one will do.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(smollm2())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
