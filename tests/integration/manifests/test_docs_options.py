"""docs/lora-options.md says of each option and engine what the preflight says of an adapter with it."""

import re
from pathlib import Path
from typing import Any

import pytest

from lora_api.servability import ENGINES, verdicts

PAGE = Path(__file__).resolve().parents[3] / "docs" / "lora-options.md"
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "v_proj"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "`rank`, `alpha`": {"r": 64},
    "`dropout`": {"lora_dropout": 0.1},
    "`rsLoRA`": {"use_rslora": True},
    "`rankPattern`": {"rank_pattern": {"q_proj": 8}},
    "`doRA`": {"use_dora": True},
    "`initialization` `Kaiming` `Gaussian` `Orthogonal`": {"init_lora_weights": "gaussian"},
    "`initialization` `PiSSA` `OLoRA`": {"r": 32},  # as it is published: plain, of twice the rank
    "`modulesToSave`": {"modules_to_save": ["lm_head"]},
    "experts": {"target_parameters": ["experts.gate_up_proj"]},
    "task `SequenceClassification`": {"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]},
    "tasks `TokenClassification`, `Seq2SeqLM`": {"task_type": "TOKEN_CLS"},
}
"""What each row of the page means for an adapter_config.json. Where a cell has a condition, it is not met."""


def rows() -> dict[str, list[str]]:
    table = PAGE.read_text().partition("| field | what it does |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {option: [vllm, sglang, kernels, kernels] for option, _, vllm, sglang, kernels, _ in cells}


ROWS = rows()


def test_every_row_is_checked() -> None:
    assert ROWS.keys() == OPTIONS.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_row_says_of_each_engine_what_its_verdict_is(option: str) -> None:
    said = [bool(re.match(r"yes|with ", cell)) for cell in ROWS[option]]
    assert dict(zip(ENGINES, said, strict=True)) == {
        each.engine: each.servable for each in verdicts(PLAIN | OPTIONS[option])
    }


@pytest.mark.parametrize("rank", [4, 8, 12, 16, 32, 64, 128, 256])
def test_the_ranks_that_lorax_and_tgi_compute_are_those_of_the_page(rank: int) -> None:
    said = {int(each) for each in re.findall(r"\d+", ROWS["`rank`, `alpha`"][2])}
    assert (rank in said) == verdicts(PLAIN | {"r": rank})[2].servable
