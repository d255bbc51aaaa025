"""The manifest of an adapter holds the request, and neither it nor the model card a secret of it."""

from types import SimpleNamespace

import pytest

from lora_api.artifacts import FileEntry, Manifest
from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import MemoryEstimate, Plan, Resolved
from lora_trainer.deliver import describe
from lora_trainer.publish.card import card
from lora_trainer.publish.size import Sizes

PLAN = Plan(micro_batch_size=4, accumulation_steps=4, max_length=512, total_steps=30)
ESTIMATE = MemoryEstimate(total=1, weights=1, adapter=0, activations=0, logits=0)
RESOLVED = Resolved(
    base_revision="c" * 40,
    dataset_digest="sha256:ef",
    rows=950,
    tokens=7000,
    parameters=1000,
    trainable_parameters=10,
    plan=PLAN,
    memory_estimate=ESTIMATE,
)
FILES = [FileEntry(path="adapter_model.safetensors", size=3, sha256="a" * 64)]
SPEC = {
    "baseModel": {"uri": "hf://owner/base", "tokenSecretRef": {"name": "hub-token"}},
    "dataset": {"train": {"uri": "https://files.example/a.jsonl?X-Amz-Signature=topsecret"}},
    "output": {"uri": "s3://models/prefix"},
    "storage": {"credentialsSecretRef": {"name": "keys"}},
    "pod": {"env": [{"name": "TOKEN", "value": "topsecret"}]},
}


def manifest(**job) -> Manifest:
    """Return the manifest of an adapter of a job."""
    recorder = SimpleNamespace(final_metrics=lambda _: {"trainLoss": 1.0})
    trainer = SimpleNamespace(plan=PLAN, recorder=recorder, published_step=30)
    told = JobFile.model_validate({"namespace": "team-a", "name": "bot", "spec": SPEC} | job)
    return describe(SimpleNamespace(job=told), None, RESOLVED, trainer, FILES)


def test_no_secret_of_the_job_is_in_it_or_in_the_card():
    made = manifest()
    stored = made.encode().decode() + card(made, Sizes(1000, 10, 2), "CausalLM", [])
    assert [word for word in ("topsecret", "ignature", "hub-token", "keys", "TOKEN") if word in stored] == []
    assert made.dataset.uri == "https://files.example/a.jsonl"
    assert made.request.withheld == ["baseModel.tokenSecretRef", "dataset.train.uri"]


@pytest.mark.parametrize(
    "job", [{"namespace": "team-b"}, {"name": "other"}, {"run": 7, "uid": "u-2"}, {"image": "t:2"}]
)
def test_the_request_says_nothing_of_who_asked_when(job):
    assert manifest(**job).request == manifest().request
    assert manifest(**job).digest == manifest().digest


def test_the_request_reads_back_as_the_spec_that_was_trained():
    read = LoRAJobSpec.model_validate(Manifest.model_validate_json(manifest().encode()).request.spec)
    trained = LoRAJobSpec.model_validate(SPEC)
    assert (read.lora, read.training, read.output) == (trained.lora, trained.training, trained.output)
