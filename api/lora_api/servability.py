"""Whether each inference engine can load an adapter as it is, read from its adapter_config.json alone.

Pure, so that it is known before a training, after it, and in front of an engine that is about to load the adapter. The
rules are those that the engines check themselves, vLLM 0.33 (`lora/peft_helper.py`, `config/lora.py`) and SGLang 0.5.23
(`lora/lora_config.py`, `lora/lora_manager.py`), and the settings that they drop in silence, which is worse. LoRAX and
TGI share their code (`adapters/lora.py`, `utils/sgmv.py`); they check nothing at all.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lora_api.messages import Servability

VLLM, SGLANG, LORAX, TGI = "vllm", "sglang", "lorax", "tgi"
ENGINES = (VLLM, SGLANG, LORAX, TGI)
"""Those that have a verdict, in its order."""

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK_LIMIT = 16
_VLLM_HEADS = ("classifier", "score")
_KERNEL_RANKS = (8, 16, 32, 64, 128)
_HIGHEST_RANK = 65_536
# Initializations that change the base weights: the adapter fits no clean base.
_CHANGING_INITIALIZATIONS = ("pissa", "olora", "corda", "loftq")
_UNSERVED_TASKS = {"TOKEN_CLS": "token classification", "SEQ_2_SEQ_LM": "sequence to sequence"}
_ALL_LINEAR = ("all", "all-linear")


def _given(value: Any) -> Any:
    """Turn the null that PEFT writes for nothing into something empty."""
    return () if value is None else value


def _mapping(value: Any) -> Any:
    return {} if value is None else value


_Rank = Annotated[int, Field(strict=True, ge=1, le=_HIGHEST_RANK)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_given)]
_Anything = Any  # only whether it is set matters


class AdapterConfig(BaseModel):
    """What decides in an adapter_config.json of PEFT, whose names these are; all else in it is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peft_type: str | None = None
    task_type: str | None = None
    r: _Rank
    rank_pattern: Annotated[dict[str, _Rank], BeforeValidator(_mapping)] = {}
    alpha_pattern: Annotated[dict[str, float], BeforeValidator(_mapping)] = {}
    use_rslora: bool | None = None
    use_dora: bool | None = None
    bias: str | None = None
    lora_bias: bool | None = None
    init_lora_weights: bool | str | None = None
    target_modules: Annotated[tuple[str, ...] | str, BeforeValidator(_given)] = ()
    target_parameters: _Names = ()
    modules_to_save: _Names = ()
    layers_to_transform: _Anything = None
    layer_replication: _Anything = None
    alora_invocation_tokens: _Anything = None
    trainable_token_indices: _Anything = None
    use_qalora: _Anything = None
    use_bdlora: _Anything = None

    @property
    def highest_rank(self) -> int:
        """The rank that an engine must have room for."""
        return max([self.r, *self.rank_pattern.values()])


def verdicts(adapter_config: Mapping[str, Any] | AdapterConfig) -> list[Servability]:
    """Return one verdict for each of `ENGINES`, in this order, on the content of an adapter_config.json.

    Raises pydantic's `ValidationError` (a `ValueError`) for a content that PEFT never writes.
    """
    config = AdapterConfig.model_validate(adapter_config)
    return [
        _verdict(VLLM, _vllm_faults(config), _vllm_notes(config)),
        _verdict(SGLANG, _sglang_faults(config), _sglang_notes(config)),
        _verdict(LORAX, _kernel_faults(config), []),
        _verdict(TGI, _kernel_faults(config), []),
    ]


def _verdict(engine: str, faults: list[str], notes: list[str]) -> Servability:
    return Servability(engine=engine, servable=not faults, message="; ".join(faults or notes))


def _common_faults(config: AdapterConfig) -> list[str]:
    faults = []
    if config.task_type in _UNSERVED_TASKS:
        faults.append(f"adapters of {_UNSERVED_TASKS[config.task_type]} are not served")
    if config.use_dora:
        faults.append("DoRA is not served")
    if (config.bias or "none") != "none" or config.lora_bias:
        faults.append("biases are not served")
    if str(config.init_lora_weights).lower().startswith(_CHANGING_INITIALIZATIONS):
        faults.append("the initialization changed the base weights; convert the adapter first")
    if config.trainable_token_indices:
        faults.append("trained tokens are not served")
    variants = {
        "layer_replication": config.layer_replication,
        "alora_invocation_tokens": config.alora_invocation_tokens,
        "use_qalora": config.use_qalora,
        "use_bdlora": config.use_bdlora,
    }
    return faults + [f"{name} is not served" for name, value in variants.items() if value]


def _vllm_faults(config: AdapterConfig) -> list[str]:
    faults, saved = _common_faults(config), config.modules_to_save
    if len(saved) > 1 or any(name not in _VLLM_HEADS for name in saved):
        faults.append(f"of modules that are saved whole only one {' or '.join(_VLLM_HEADS)} is served")
    if config.highest_rank > _VLLM_RANKS[-1]:
        faults.append(f"rank {config.highest_rank} is above the highest limit, {_VLLM_RANKS[-1]}")
    return faults


def _vllm_notes(config: AdapterConfig) -> list[str]:
    rank = config.highest_rank
    notes = [f"needs --max-lora-rank {vllm_rank_limit(rank)}"] if rank > _DEFAULT_RANK_LIMIT else []
    if config.target_parameters:
        notes.append("needs --enable-mixed-moe-lora-format for the experts")
    return notes


def vllm_rank_limit(rank: int) -> int:
    """Return the smallest value of vLLM's --max-lora-rank that a rank fits; the rank itself where none does."""
    return next((each for each in _VLLM_RANKS if each >= rank), rank)


def _sglang_faults(config: AdapterConfig) -> list[str]:
    faults = _common_faults(config)
    if config.modules_to_save:
        faults.append("modules that are saved whole are left out without a word")
    if config.target_parameters:
        faults.append("adapters of stacked experts are not served")
    if config.use_rslora:
        faults.append("rsLoRA is ignored without a word, so the adapter acts too weakly")
    if config.rank_pattern or config.alpha_pattern:
        faults.append("rankPattern is ignored without a word")
    if isinstance(config.target_modules, str):
        if config.target_modules not in _ALL_LINEAR:
            faults.append("target_modules is a pattern and must be a list of names")
    elif "q_proj" in config.target_modules and "v_proj" not in config.target_modules:
        faults.append("q_proj without v_proj is not loaded")
    return faults


def _sglang_notes(config: AdapterConfig) -> list[str]:
    return [f"needs --max-lora-rank {config.highest_rank} and --lora-target-modules all"]


def _kernel_faults(config: AdapterConfig) -> list[str]:
    """Return what LoRAX and TGI refuse or drop.

    Their kernels take ranks of a fixed set. Others are filled up to one of it, after which all kinds of layers but the
    first are scaled by the rank that was filled up to.
    """
    faults = _common_faults(config)
    if config.modules_to_save:
        faults.append("modules that are saved whole are left out without a word")
    if config.target_parameters:
        faults.append("adapters of stacked experts are left out without a word")
    if config.rank_pattern or config.alpha_pattern:
        faults.append("rankPattern is ignored without a word")
    if config.layers_to_transform is not None:
        faults.append("modules that only some layers adapt are left out without a word")
    if config.r not in _KERNEL_RANKS:
        faults.append(f"rank {config.r} is none that its kernels compute: {', '.join(map(str, _KERNEL_RANKS))}")
    return faults
