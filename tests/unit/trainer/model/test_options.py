"""Settings that do not go together are refused by name, before a GPU is asked for."""

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_trainer.errors import TrainerError
from lora_trainer.model.options import check_options
from support.specs import SMALLEST

DENSE = {"model.layers.0.self_attn.q_proj": (32, 16)}
EXPERTS = {"model.layers.0.mlp.experts.down_proj": (64, 64)}


def check(layers, rank=4, **blocks):
    spec = LoRAJobSpec.model_validate(SMALLEST | {"lora": {"rank": rank} | blocks.pop("lora", {})} | blocks)
    check_options(spec, dict.fromkeys(layers, rank), layers)


@pytest.mark.parametrize(
    ("layers", "rank", "lora", "blocks", "message"),
    [
        (DENSE, 4, {"initialization": "PiSSA"}, {"quantization": {}}, "spec.lora.initialization: PiSSA"),
        (DENSE, 4, {"initialization": "OLoRA"}, {"quantization": {}}, "spec.lora.initialization: OLoRA"),
        (DENSE, 4, {"initialization": "Orthogonal"}, {"quantization": {}}, "spec.lora.initialization: Orthogonal"),
        (DENSE, 32, {"initialization": "PiSSA"}, {}, "spec.lora.rank: 32 with PiSSA is more than model.layers.0"),
        (DENSE, 5, {"initialization": "Orthogonal"}, {}, "spec.lora.rank: 5 is odd"),
        (EXPERTS, 4, {"dropout": 0.1}, {}, "spec.lora.dropout: 0.1 does not work on experts"),
        (EXPERTS, 4, {"doRA": True}, {}, "spec.lora.doRA: it does not work on experts"),
        (EXPERTS, 4, {"initialization": "PiSSA"}, {}, "spec.lora.initialization: PiSSA does not work on experts"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(layers, rank, lora, blocks, message):
    with pytest.raises(TrainerError) as caught:
        check(layers, rank, lora=lora, **blocks)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert caught.value.message.startswith(message)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("layers", "rank", "lora", "blocks"),
    [
        (DENSE, 32, {}, {"quantization": {}}),
        (DENSE, 16, {"initialization": "PiSSA"}, {}),
        (DENSE, 5, {"doRA": True, "dropout": 0.1}, {}),
        (EXPERTS, 4, {"rsLoRA": True, "initialization": "Gaussian"}, {}),
    ],
)
def test_other_settings_are_taken(layers, rank, lora, blocks):
    check(layers, rank, lora=lora, **blocks)
