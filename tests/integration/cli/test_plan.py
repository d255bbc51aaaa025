"""`plan` with the trainer's own preflight, as a process of its own, on a tiny model of this machine."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from lora_cli import main
from support.samples import lorajob
from unit.trainer.tiny_tokenizer import CHATML, CHATML_SPECIALS, tiny_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a folder with a random Llama of one layer and its tokenizer."""
    folder = tmp_path / "base"
    tokenizer = tiny_tokenizer(CHATML, CHATML_SPECIALS, "<|im_end|>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=512, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(tmp_path: Path, base: Path, rows: list[dict[str, object]]) -> str:
    data = tmp_path / "train.jsonl"
    data.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    spec = {
        "baseModel": {"uri": f"file://{base}"},
        "dataset": {"train": {"uri": f"file://{data}"}},
        "training": {"maxSteps": 4, "effectiveBatchSize": 4},
        "resources": {"gpus": 0},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(lorajob("bot", **spec)))
    return str(path)


def test_the_preflight_gives_batches_and_memory_or_says_what_is_wrong_with_the_data(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = {"role": "user", "content": "The capital of Spain?"}
    rows = [{"messages": [asked, {"role": "assistant", "content": f"Madrid {number}"}]} for number in range(20)]
    assert main.run(["plan", "--offline", "-o", "json", "-f", write(tmp_path, base, rows)]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["preflight"]["rows"] == 20
    assert plan["preflight"]["plan"]["totalSteps"] == 4
    assert plan["preflight"]["memoryEstimate"]["total"] > 0
    assert plan["spec"]["output"] == {"uri": "s3://models/prefix", "formats": []}  # as asked, not where the report went

    assert main.run(["plan", "--offline", "-f", write(tmp_path, base, [{"messages": []}])]) == 1
    said = capsys.readouterr()
    assert "preflight: refused: " in said.out
    assert "train.jsonl" in said.out
