"""What a preflight found, in words that a person reads at a glance."""

import pytest

from lora_api.messages import Plan, Servability
from lora_operator.domain.summary import preflight_warnings, summarize_preflight
from support.samples import RESOLVED

PLAN = Plan(micro_batch_size=2, accumulation_steps=8, max_length=4096, total_steps=250)
SMALLEST = RESOLVED.model_copy(
    update={"format": "", "validation_rows": 0, "adapter_bytes": 0, "full_bytes": 0, "servable": []}
    | {"estimated_seconds": None}
)


def test_data_sizes_plan_time_and_engines_are_in_it() -> None:
    assert summarize_preflight(RESOLVED) == (
        "950 rows and 50 to validate of format Messages; 123456 tokens an epoch; "
        "trains 4.88 M of 135 M parameters (3.6 %); adapter 19.5 MB, full copy 269 MB; "
        "118 steps of 4 x 4 rows up to 512 tokens; about 15 min; vLLM yes, SGLang yes"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert summarize_preflight(SMALLEST) == (
        "950 rows; 123456 tokens an epoch; trains 4.88 M of 135 M parameters (3.6 %); "
        "118 steps of 4 x 4 rows up to 512 tokens"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"parameters": 8_030_261_248, "trainable_parameters": 41_943_040},
            "trains 41.9 M of 8.03 B parameters (0.52 %)",
        ),
        ({"parameters": 999_600, "trainable_parameters": 512}, "trains 512 of 1 M parameters (0.051 %)"),
        ({"parameters": 0, "trainable_parameters": 0}, "trains 0 of 0 parameters;"),
        ({"adapter_bytes": 640, "full_bytes": 16_060_522_496}, "adapter 640 bytes, full copy 16.1 GB"),
        ({"estimated_seconds": 45}, "about 45 s"),
        ({"estimated_seconds": 7_140}, "about 119 min"),
        ({"estimated_seconds": 12_000}, "about 3 h 20 min"),
        ({"plan": PLAN.model_copy(update={"packing": True})}, "250 steps of 2 x 8 rows up to 4096 tokens, packed;"),
        (
            {"plan": PLAN.model_copy(update={"activation_checkpointing": True, "sharded": True})},
            "up to 4096 tokens, activations computed twice, base sharded",
        ),
        (
            {"servable": [Servability(engine="vllm", servable=True, message="needs --max-lora-rank 32")]},
            "vLLM yes (needs --max-lora-rank 32)",
        ),
        ({"servable": [Servability(engine="other", servable=False, message="x" * 500)]}, f"other no ({'x' * 159}…)"),
    ],
)
def test_numbers_have_units_and_engines_their_reason(change: dict[str, object], words: str) -> None:
    assert words in summarize_preflight(RESOLVED.model_copy(update=change))


DORA = Servability(engine="vllm", servable=False, message="DoRA is not served")


@pytest.mark.parametrize(
    ("warnings", "servable", "told"),
    [
        ([], [], []),
        (["12 rows are cut"], [Servability(engine="vllm", servable=True, message="needs a flag")], ["12 rows are cut"]),
        (["12 rows are cut"], [DORA], ["12 rows are cut", "vLLM cannot load the adapter: DoRA is not served"]),
        (["vLLM will not load it: DoRA"], [DORA], ["vLLM will not load it: DoRA"]),
    ],
    ids=["nothing", "an engine that can", "an engine that cannot", "not told twice"],
)
def test_warnings_name_the_engines_that_cannot_load_the_adapter(
    warnings: list[str], servable: list[Servability], told: list[str]
) -> None:
    assert preflight_warnings(RESOLVED.model_copy(update={"warnings": warnings, "servable": servable})) == told
