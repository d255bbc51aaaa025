"""Whether each inference engine can load the adapter as it is, read from its settings alone.

Pure, so that it is known before the training, from `expected_config`, and after it, from the published config. The
rules are those that the engines check themselves, vLLM 0.33 (`lora/peft_helper.py`, `config/lora.py`) and SGLang 0.5.23
(`lora/lora_config.py`, `lora/lora_manager.py`), and the settings that they drop in silence, which is worse.
"""

from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Servability
from lora_trainer.model.options import CHANGING
from lora_trainer.model.targets import is_experts
from lora_trainer.tasks import rules_of

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK_LIMIT = 16
_VLLM_HEADS = ("classifier", "score")
# Initializations that change the base weights: the adapter fits no clean base.
_CHANGING_INITIALIZATIONS = ("pissa", "olora", "corda", "loftq")
_UNSERVED_TASKS = {"TOKEN_CLS": "token classification", "SEQ_2_SEQ_LM": "sequence to sequence"}


def expected_config(spec: LoRAJobSpec, targets: list[str], heads: list[str] | None = None) -> dict[str, Any]:
    """Return what decides the verdicts in the adapter_config.json that a job will publish.

    `targets` are the names of its modules, `heads` the modules of a new head, where they are known. A start that
    changes the base is converted at the end, which doubles the ranks.
    """
    lora, rules = spec.lora, rules_of(spec)
    factor = 2 if lora.initialization in CHANGING else 1
    unknown_head = ["classifier"] if rules.whole_modules else []
    return {
        "task_type": rules.peft_task,
        "r": factor * lora.rank,
        "rank_pattern": {name: factor * rank for name, rank in lora.rank_pattern.items()},
        "use_rslora": lora.rs_lora,
        "use_dora": lora.do_ra,
        "init_lora_weights": True,
        "target_modules": [name for name in targets if not is_experts(name)],
        "target_parameters": [name for name in targets if is_experts(name)],
        "modules_to_save": [*lora.modules_to_save, *(heads or unknown_head)],
    }


def verdicts(adapter_config: dict[str, Any]) -> list[Servability]:
    """Return one verdict an engine for the content of an adapter_config.json."""
    return [
        _verdict("vllm", _vllm_faults(adapter_config), _vllm_notes(adapter_config)),
        _verdict("sglang", _sglang_faults(adapter_config), _sglang_notes(adapter_config)),
    ]


def _verdict(engine: str, faults: list[str], notes: list[str]) -> Servability:
    return Servability(engine=engine, servable=not faults, message="; ".join(faults or notes))


def _common_faults(config: dict[str, Any]) -> list[str]:
    faults = []
    if config.get("task_type") in _UNSERVED_TASKS:
        faults.append(f"adapters of {_UNSERVED_TASKS[config['task_type']]} are not served")
    if config.get("use_dora"):
        faults.append("DoRA is not served")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        faults.append("biases are not served")
    if str(config.get("init_lora_weights", True)).lower().startswith(_CHANGING_INITIALIZATIONS):
        faults.append("the initialization changed the base weights; convert the adapter first")
    return faults


def _vllm_faults(config: dict[str, Any]) -> list[str]:
    faults, saved = _common_faults(config), config.get("modules_to_save") or []
    if len(saved) > 1 or any(name not in _VLLM_HEADS for name in saved):
        faults.append(f"of modules that are saved whole only one {' or '.join(_VLLM_HEADS)} is served")
    if _highest_rank(config) > _VLLM_RANKS[-1]:
        faults.append(f"rank {_highest_rank(config)} is above the highest limit, {_VLLM_RANKS[-1]}")
    return faults


def _vllm_notes(config: dict[str, Any]) -> list[str]:
    rank = _highest_rank(config)
    limit = next((each for each in _VLLM_RANKS if each >= rank), rank)
    notes = [f"needs --max-lora-rank {limit}"] if rank > _DEFAULT_RANK_LIMIT else []
    if config.get("target_parameters"):
        notes.append("needs --enable-mixed-moe-lora-format for the experts")
    return notes


def _sglang_faults(config: dict[str, Any]) -> list[str]:
    faults = _common_faults(config)
    if config.get("modules_to_save"):
        faults.append("modules that are saved whole are left out without a word")
    if config.get("target_parameters"):
        faults.append("adapters of stacked experts are not served")
    if config.get("use_rslora"):
        faults.append("rsLoRA is ignored without a word, so the adapter acts too weakly")
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        faults.append("rankPattern is ignored without a word")
    targets = set(config.get("target_modules") or [])
    if "q_proj" in targets and "v_proj" not in targets:
        faults.append("q_proj without v_proj is not loaded")
    return faults


def _sglang_notes(config: dict[str, Any]) -> list[str]:
    return [f"needs --max-lora-rank {_highest_rank(config)} and --lora-target-modules all"]


def _highest_rank(config: dict[str, Any]) -> int:
    return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
