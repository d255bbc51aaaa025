"""Whether each inference engine can load the adapter as it is, read from its settings alone.

Pure. The rules are those that the engines check themselves, vLLM 0.33 (`lora/peft_helper.py`, `config/lora.py`) and
SGLang 0.5.23 (`lora/lora_config.py`, `lora/lora_manager.py`), and the settings that they drop in silence, which is
worse.
"""

from typing import Any

from lora_api.messages import Servability

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK_LIMIT = 16
# Initializations that change the base weights: the adapter fits no clean base.
_CHANGING_INITIALIZATIONS = ("pissa", "olora", "corda", "loftq")


def verdicts(adapter_config: dict[str, Any]) -> list[Servability]:
    """Return one verdict an engine for the content of an adapter_config.json."""
    return [
        _verdict("vllm", _vllm_faults(adapter_config), _vllm_note(adapter_config)),
        _verdict("sglang", _sglang_faults(adapter_config), _sglang_note(adapter_config)),
    ]


def _verdict(engine: str, faults: list[str], note: str) -> Servability:
    return Servability(engine=engine, servable=not faults, message="; ".join(faults) or note)


def _common_faults(config: dict[str, Any]) -> list[str]:
    faults = []
    if config.get("use_dora"):
        faults.append("DoRA is not served")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        faults.append("biases are not served")
    if config.get("modules_to_save"):
        faults.append("modulesToSave is not served")
    if str(config.get("init_lora_weights", True)).lower().startswith(_CHANGING_INITIALIZATIONS):
        faults.append("the initialization changed the base weights; convert the adapter first")
    return faults


def _vllm_faults(config: dict[str, Any]) -> list[str]:
    faults = _common_faults(config)
    if _highest_rank(config) > _VLLM_RANKS[-1]:
        faults.append(f"rank {_highest_rank(config)} is above the highest limit, {_VLLM_RANKS[-1]}")
    return faults


def _vllm_note(config: dict[str, Any]) -> str:
    rank = _highest_rank(config)
    limit = next((each for each in _VLLM_RANKS if each >= rank), rank)
    return f"needs --max-lora-rank {limit}" if rank > _DEFAULT_RANK_LIMIT else ""


def _sglang_faults(config: dict[str, Any]) -> list[str]:
    faults = _common_faults(config)
    if config.get("use_rslora"):
        faults.append("rsLoRA is ignored without a word, so the adapter acts too weakly")
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        faults.append("rankPattern is ignored without a word")
    targets = set(config.get("target_modules") or [])
    if "q_proj" in targets and "v_proj" not in targets:
        faults.append("q_proj without v_proj is not loaded")
    return faults


def _sglang_note(config: dict[str, Any]) -> str:
    return f"needs --max-lora-rank {_highest_rank(config)} and --lora-target-modules all"


def _highest_rank(config: dict[str, Any]) -> int:
    return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
