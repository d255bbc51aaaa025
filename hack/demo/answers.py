"""One prompt, answered by the base model and by base + adapter, both fetched from S3."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answers(NamedTuple):
    """The same prompt, answered twice."""

    base: str
    adapted: str


def fetch_folder(s3: Any, uri: str, folder: Path) -> Path:
    """Download every object under an s3:// URI into a folder."""
    bucket, prefix = urlsplit(uri).netloc, urlsplit(uri).path.strip("/")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for item in page.get("Contents", []):
            target = folder / item["Key"].removeprefix(f"{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, item["Key"], str(target))
    return folder


def answers(base: Path, adapter: Path, prompt: str, max_new_tokens: int = 60) -> Answers:
    """Answer the prompt greedily without and with the adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    messages = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    def answer() -> str:
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()

    with model.disable_adapter():
        base_answer = answer()
    return Answers(base_answer, answer())
