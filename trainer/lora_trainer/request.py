"""Whether a job can be done as it is asked for, as far as its file alone tells. Reads nothing else."""

from lora_api.contradictions import contradictions
from lora_api.lorajob import LoRAJobSpec
from lora_trainer.errors import invalid_request


def check_request(spec: LoRAJobSpec) -> None:
    """Do nothing for a spec that can be met. Raises a `TrainerError` (64) that names each field that cannot."""
    found = contradictions(spec)
    if found:
        raise invalid_request(
            "; ".join(each.message for each in found), "; ".join(dict.fromkeys(each.hint for each in found))
        )
