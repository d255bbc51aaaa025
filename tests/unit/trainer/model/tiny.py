"""Random models of two layers, in memory, with an adapter that is not zero; and documents for them."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

VOCABULARY = 97
_DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ENCODER = {key: value for key, value in _DECODER.items() if key != "num_key_value_heads"}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 1024,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}
WINDOW = 4

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _DECODER),
    "llama tied": ("Llama", _DECODER | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", _DECODER),
    "qwen3": ("Qwen3", _DECODER | {"head_dim": 8}),
    "mistral": ("Mistral", _DECODER | {"sliding_window": WINDOW}),
    "gemma": ("Gemma", _DECODER | {"head_dim": 16}),
    "gemma2": ("Gemma2", _DECODER | {"head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3", _DECODER | {"head_dim": 8, "sliding_window": WINDOW}),
    "gemma3 capped": ("Gemma3", _DECODER | {"head_dim": 8, "final_logit_softcapping": 5.0}),
    "granite": ("Granite", _DECODER | {"logits_scaling": 3.0}),
    "cohere": ("Cohere", _DECODER | {"logit_scale": 0.25}),
    "phi": ("Phi", _DECODER),
    "gpt neox": ("GPTNeoX", _ENCODER),
    "gpt2": ("GPT2", _GPT2),
    "bert": ("Bert", {**_ENCODER, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "t5": ("T5", _T5),
    "jamba": (
        "Jamba",
        _DECODER
        | {
            "use_mamba_kernels": False,
            "num_experts": 2,
            "attn_layer_offset": 1,
            "attn_layer_period": 2,
            "mamba_dt_rank": 4,
            "mamba_d_state": 4,
        },
    ),
    "gpt oss": ("GptOss", _DECODER | {"head_dim": 8, "num_local_experts": 2, "sliding_window": WINDOW}),
    "qwen3 moe": (
        "Qwen3Moe",
        _DECODER | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
}
_CLASSES = {"GPT2": "GPT2LMHeadModel", "T5": "T5ForConditionalGeneration", "Bert": "BertForMaskedLM"}
_CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def tiny_model(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Return a base model whose every layer matters to the logits. The same arguments give the same model."""
    name, settings = FAMILIES[family]
    config = getattr(transformers, _CONFIGS.get(name, f"{name}Config"))(**settings | changes)
    torch.manual_seed(0)
    model = getattr(transformers, _CLASSES.get(name, f"{name}ForCausalLM"))(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    return model.to(dtype).train()


def with_adapter(model: Any, **changes: Any) -> PeftModel:
    """Return the model with a LoRA adapter on all linear layers, float32 and not zero."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | changes
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.15)
    return adapted.train()  # type: ignore[return-value]


@dataclass
class Packed:
    """A packed micro-batch."""

    inputs: dict[str, torch.Tensor]
    extra: dict[str, int]


def documents(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """Return documents of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]


def packed(parts: list[torch.Tensor]) -> Packed:
    """Return documents end to end."""
    lengths = torch.tensor([0] + [len(each) for each in parts])
    inputs = {
        "input_ids": torch.cat(parts)[None],
        "position_ids": torch.cat([torch.arange(len(each)) for each in parts])[None],
        "cu_seq_lens": lengths.cumsum(0).int(),
    }
    return Packed(inputs, {"max_length": int(lengths.max())})


def padded(parts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return documents side by side."""
    pad = torch.nn.utils.rnn.pad_sequence
    mask = [torch.ones(len(each), dtype=torch.long) for each in parts]
    return {"input_ids": pad(parts, batch_first=True), "attention_mask": pad(mask, batch_first=True)}


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """Return the gradients of everything that is trained, end to end, and forget them."""
    found = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return torch.cat(found).float()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference, in relation to the largest value."""
    return float((a - b).abs().max() / b.abs().max())
