"""What a job's adapter_config.json will say, as far as it decides which engine can load the adapter.

So the verdicts of `lora_api.servability` are known before the training, too.
"""

from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.model.options import CHANGING
from lora_trainer.model.targets import is_experts
from lora_trainer.tasks import rules_of


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
