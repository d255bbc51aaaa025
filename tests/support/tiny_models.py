"""Small random models of every family, saved as folders that look like real ones: safetensors, config, tokenizer.

Each is saved as the class that such models are published as, so a classification model finds no head in the folder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

from unit.trainer.tiny_tokenizer import CHATML, CHATML_SPECIALS, tiny_tokenizer

PAD = "<|pad|>"
END = "<|im_end|>"
_LAYERS, _HIDDEN, _INNER, _HEADS, _KEY_VALUE_HEADS, _POSITIONS = 2, 32, 64, 4, 2, 256

_Make = Callable[[dict[str, Any]], PreTrainedConfig]


def _decoder(config: str, **more: Any) -> _Make:
    """Return the maker of a decoder's config, with fewer heads for keys than for queries."""
    shape = {
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "max_position_embeddings": _POSITIONS,
    }
    return lambda tokens: getattr(transformers, config)(**shape, **more, **tokens)


def _encoder(config: str) -> _Make:
    shape = {
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "max_position_embeddings": 2 * _POSITIONS,  # RoBERTa counts from the number of its padding token on
    }
    return lambda tokens: getattr(transformers, config)(**shape, **tokens)


def _gpt2(tokens: dict[str, Any]) -> PreTrainedConfig:
    return transformers.GPT2Config(n_embd=_HIDDEN, n_layer=_LAYERS, n_head=_HEADS, n_positions=_POSITIONS, **tokens)


def _t5(tokens: dict[str, Any]) -> PreTrainedConfig:
    return transformers.T5Config(
        d_model=_HIDDEN,
        d_kv=_HIDDEN // _HEADS,
        d_ff=_INNER,
        num_layers=_LAYERS,
        num_heads=_HEADS,
        decoder_start_token_id=tokens["pad_token_id"],
        **tokens,
    )


_FAMILIES: dict[str, tuple[str, _Make]] = {
    "llama": ("LlamaForCausalLM", _decoder("LlamaConfig")),
    "qwen2": ("Qwen2ForCausalLM", _decoder("Qwen2Config")),
    "qwen3": ("Qwen3ForCausalLM", _decoder("Qwen3Config", head_dim=8)),
    "mistral": ("MistralForCausalLM", _decoder("MistralConfig")),
    "gemma": ("GemmaForCausalLM", _decoder("GemmaConfig", head_dim=8)),
    "gemma2": ("Gemma2ForCausalLM", _decoder("Gemma2Config", head_dim=8)),
    "gemma3": ("Gemma3ForCausalLM", _decoder("Gemma3TextConfig", head_dim=8)),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        _decoder("Qwen3MoeConfig", head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    ),
    "gpt2": ("GPT2LMHeadModel", _gpt2),
    "bert": ("BertForPreTraining", _encoder("BertConfig")),
    "roberta": ("RobertaForMaskedLM", _encoder("RobertaConfig")),
    "t5": ("T5ForConditionalGeneration", _t5),
}

CAUSAL = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "gpt2")
"""Families of causal language models; `qwen3_moe`, with experts, is besides."""
ENCODERS = ("bert", "roberta")
SEQ2SEQ = ("t5",)


def tiny_model_tokenizer() -> Any:
    """Return the tokenizer that all tiny models share: ChatML, and a padding token that ends nothing."""
    tokenizer = tiny_tokenizer(CHATML, [*CHATML_SPECIALS, PAD], END)
    tokenizer.pad_token = PAD
    return tokenizer


def save_tiny_model(family: str, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Save a random model of a family with its tokenizer, and return the folder. The same seed gives the same model."""
    tokenizer = tiny_model_tokenizer()
    tokens = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    architecture, make_config = _FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)(make_config(tokens)).to(dtype)
        _spread(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Widen the weights, so that every layer matters to the logits and a wrong one shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
