"""What an administrator allows: patterns that no trick slips through, rules, and the file that they come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_api.reasons import Reason
from lora_operator.app.config import read_config
from lora_operator.app.config_file import ConfigFileError, read_policy
from lora_operator.domain.observed import ObservedJob
from lora_operator.domain.patterns import matches
from lora_operator.domain.policy import Policy, violation
from support.samples import lorajob_spec

MATCHES = [
    ("*", "anything/at:all"),
    ("s3://models/*", "s3://models/a"),
    ("s3://models/*", "s3://models/a/b/c"),
    ("s3://models/base", "s3://models/base"),
    ("s3://models/*/base", "s3://models/llama/base"),
    ("s3://team-*/data/*", "s3://team-a/data/x.jsonl"),
    ("s3://*", "s3://any.bucket/at/all"),
    ("hf://meta-llama/*", "hf://meta-llama/Llama-3.2-1B"),
    ("hf://meta-llama/Llama-3*", "hf://meta-llama/Llama-3.2-1B"),
    ("https://*.example.com/data/*", "https://files.example.com/data/x.jsonl"),
    ("https://minio.example:*", "https://minio.example:9000"),
    ("registry.example/lora/*", "registry.example/lora/trainer:1.0@sha256:ab"),
    ("registry.example:5000/lora/trainer:*", "registry.example:5000/lora/trainer:1.0"),
    ("trainer:*", "trainer:1.0"),
    ("NCCL_*", "NCCL_DEBUG"),
    ("team-*", "team-a"),
]
TRICKS = [
    ("s3://models/*", "s3://models-evil/a"),  # a longer bucket
    ("s3://models/*", "s3://models"),
    ("s3://models/*", "s3://models/"),
    ("s3://models/*", "s3://models/../secret"),
    ("s3://models/*", "s3://models/a/../../secret"),
    ("s3://models/*", "s3://models/./a"),
    ("s3://models/*", "hf://models/a"),
    ("s3://models/*", "S3://models/a"),
    ("s3://models/*", "xs3://models/a"),
    ("s3://models/*/base", "s3://models/a/b/base"),  # a star in the middle is one part
    ("s3://team-*/x", "s3://team-a.evil/x"),
    ("https://host.example/data/*", "https://host.example/data/%2e%2e/secret"),
    ("https://host.example/data/*", "https://host.example/data/%252e%252e%252fsecret"),
    ("https://host.example/data/*", "https://host.example/data/\\..\\secret"),
    ("https://host.example/*", "https://host.example@evil.example/x"),
    ("https://host.example/*", "https://host.example.evil.example/x"),
    ("https://host.example/*", "https://evil.example/?https://host.example/x"),
    ("https://*.example.com/*", "https://evil.com?.example.com/x"),
    ("https://*.example.com/*", "https://evil.com#.example.com/x"),
    ("https://*.example.com/*", "https://evil.com/.example.com/x"),
    ("https://*.example.com/*", "https://user:word@a.example.com/x"),
    ("https://*", "http://host.example/x"),
    ("hf://meta-llama/*", "hf://meta-llama-evil/x"),
    ("registry.example/lora/*", "registry.example/lora-evil/x"),
    ("registry.example/lora/*", "registry.example/lora/../evil/x"),
    ("registry*/lora", "registry.evil.example/lora"),
    ("registry*/lora", "registry:5000/lora"),
    ("team-*", "my-team-a"),
    ("team.a", "teamxa"),  # a dot is a dot
]


@pytest.mark.parametrize(("pattern", "value"), MATCHES)
def test_a_pattern_stands_for(pattern: str, value: str) -> None:
    assert matches(pattern, value)


@pytest.mark.parametrize(("pattern", "value"), TRICKS)
def test_a_pattern_does_not_stand_for(pattern: str, value: str) -> None:
    assert not matches(pattern, value)


def policy_of(**rule: Any) -> Policy:
    return Policy.model_validate_json(json.dumps({"rules": [{"namespaces": ["team-*"]} | rule]}))


def job_with(namespace: str = "team-a", **changes: Any) -> ObservedJob:
    spec = LoRAJobSpec.model_validate(lorajob_spec(**changes))
    return ObservedJob(namespace=namespace, name="support-bot", uid="1", generation=1, spec=spec)


S3 = {"uri": "s3://data/x.jsonl"}
HUB = {"uri": "hf://owner/data/x.jsonl"}
TRAIN = {"train": S3}
ENDPOINT = {"endpoint": "https://minio.example/"}


def env(name: str, value: str) -> dict[str, Any]:
    return {"env": [{"name": name, "value": value}]}


ALLOWED = [
    ("no rule for it", {}, {}),
    ("its own image", {"images": ["r.example/*"]}, {"pod": {"image": "r.example/own:1"}}),
    ("the default image, left out", {"images": []}, {}),
    ("the default image, written out", {"images": []}, {"pod": {"image": "trainer:default"}}),
    ("base", {"baseModels": ["hf://owner/*"]}, {"baseModel": {"uri": "hf://owner/name"}}),
    ("data", {"datasets": ["s3://data/*"]}, {"dataset": TRAIN}),
    ("output", {"outputs": ["s3://models/*"]}, {"output": {"uri": "s3://models"}}),
    ("output of the namespace", {"outputs": ["s3://models/team-a/*"]}, {"output": {"uri": "s3://models"}}),
    ("endpoint", {"endpoints": ["https://minio.example"]}, {"storage": ENDPOINT}),
    ("no endpoint is AWS", {"endpoints": ["https://*.amazonaws.com"]}, {}),
    (
        "an endpoint by variable",
        {"endpoints": ["https://m.example"]},
        {"pod": env("AWS_ENDPOINT_URL", "https://m.example")},
    ),
    ("variable", {"envNames": ["NCCL_*"]}, {"pod": env("NCCL_DEBUG", "INFO")}),
    ("the default account", {"serviceAccountNames": ["default"]}, {}),
    ("queue", {"queueNames": ["gpu"], "requireQueue": True}, {"scheduling": {"queueName": "gpu"}}),
    ("no queue is needed", {"queueNames": ["gpu"]}, {}),
    ("as many GPUs", {"maxGPUs": 8}, {"resources": {"gpus": 4, "nodes": 2}}),
    ("deadline", {"requireDeadline": True}, {"failurePolicy": {"activeDeadlineSeconds": 60}}),
]
FORBIDDEN = [
    ({"images": ["r.example/*"]}, {"pod": {"image": "evil.example/x"}}, "spec.pod.image: evil.example/x"),
    ({"images": []}, {"pod": {"image": "evil.example/x"}}, "spec.pod.image: evil.example/x"),
    ({"baseModels": ["hf://owner/*"]}, {"baseModel": {"uri": "hf://other/n"}}, "spec.baseModel.uri: hf://other/n"),
    ({"datasets": ["s3://data/*"]}, {"dataset": {"train": HUB}}, "spec.dataset.train.uri: hf://owner/data/x.jsonl"),
    ({"datasets": ["s3://data/*"]}, {"dataset": TRAIN | {"mixture": [S3, HUB]}}, "spec.dataset.mixture[1].uri: hf:"),
    ({"datasets": ["s3://data/*"]}, {"dataset": TRAIN | {"validation": HUB}}, "spec.dataset.validation.uri: hf:"),
    (
        {"datasets": ["s3://data/*"]},
        {"dataset": TRAIN, "evaluation": {"retention": HUB}},
        "spec.evaluation.retention.uri: hf:",
    ),
    (
        {"outputs": ["s3://models/*"]},
        {"output": {"uri": "s3://models-evil"}},
        "spec.output.uri: s3://models-evil/team-a",
    ),
    ({"outputs": ["s3://models/team-b/*"]}, {"output": {"uri": "s3://models"}}, "spec.output.uri: s3://models/team-a/"),
    ({"endpoints": ["https://s3.example"]}, {"storage": ENDPOINT}, "spec.storage.endpoint: https://minio.example"),
    ({"endpoints": ["https://s3.example"]}, {}, "spec.storage.endpoint: https://s3.amazonaws.com"),
    ({"envNames": []}, {"pod": env("LD_PRELOAD", "/x")}, "spec.pod.env: LD_PRELOAD"),
    ({"serviceAccountNames": ["trainer"]}, {}, "spec.scheduling.serviceAccountName: default"),
    ({"queueNames": ["gpu"]}, {"scheduling": {"queueName": "vip"}}, "spec.scheduling.queueName: vip"),
    ({"requireQueue": True}, {}, "spec.scheduling.queueName: is not set"),
    ({"maxGPUs": 7}, {"resources": {"gpus": 4, "nodes": 2}}, "spec.resources.gpus: 4 on each of 2 nodes are 8 GPUs"),
    ({"requireDeadline": True}, {}, "spec.failurePolicy.activeDeadlineSeconds: is not set"),
]


@pytest.mark.parametrize(
    ("rule", "spec"), [(rule, spec) for _, rule, spec in ALLOWED], ids=[each[0] for each in ALLOWED]
)
def test_allowed(rule: dict[str, Any], spec: dict[str, Any]) -> None:
    assert violation(policy_of(**rule), job_with(**spec), trainer_image="trainer:default") is None


@pytest.mark.parametrize(("rule", "spec", "words"), FORBIDDEN, ids=[each[2] for each in FORBIDDEN])
def test_forbidden_says_field_value_rule_and_way_out(rule: dict[str, Any], spec: dict[str, Any], words: str) -> None:
    stall = violation(policy_of(**rule), job_with(**spec), trainer_image="trainer:default")
    assert stall is not None
    assert stall.reason is Reason.NOT_ALLOWED
    assert stall.message.startswith(words)
    assert "rule 1 of the operator's policy" in stall.message
    assert stall.hint.endswith(", or ask who runs the operator")
    assert violation(policy_of(**rule), job_with("other", **spec)) is None, "the rule is for other namespaces"


def test_the_whole_text_of_a_breach() -> None:
    policy = policy_of(name="bases", baseModels=["hf://meta-llama/*", "s3://bases/*"])
    stall = violation(policy, job_with(baseModel={"uri": "hf://gpt2"}))
    assert stall is not None
    assert stall.message == (
        "spec.baseModel.uri: hf://gpt2 is not allowed: rule 'bases' of the operator's policy allows "
        "hf://meta-llama/* s3://bases/*"
    )
    assert stall.hint == "use hf://meta-llama/* s3://bases/*, or ask who runs the operator"


def test_the_value_of_a_variable_is_compared_and_not_shown() -> None:
    job = job_with(pod=env("HF_ENDPOINT", "https://user:planted@evil.example"), storage=ENDPOINT)
    stall = violation(policy_of(endpoints=["https://minio.example"]), job)
    assert stall is not None
    assert stall.message.startswith("spec.pod.env, HF_ENDPOINT: its value is not allowed")
    assert "planted" not in stall.message + stall.hint


def test_every_rule_that_names_the_namespace_counts() -> None:
    rules = [{"namespaces": ["*"], "maxGPUs": 8}, {"namespaces": ["team-a", "team-b"], "maxGPUs": 2}]
    policy = Policy.model_validate_json(json.dumps({"rules": rules}))
    four = {"resources": {"gpus": 4}}
    assert violation(policy, job_with("team-c", **four)) is None
    stall = violation(policy, job_with("team-b", **four))
    assert stall is not None
    assert "rule 2 of the operator's policy allows 2 a job" in stall.message


def test_without_rules_or_a_spec_there_is_nothing_to_say() -> None:
    assert violation(Policy(), job_with()) is None
    unreadable = ObservedJob(namespace="team-a", name="x", uid="1", generation=1, spec=None)
    assert violation(policy_of(images=[]), unreadable) is None


GOOD = """
policy:
  rules:
  - name: everybody
    namespaces: ["*"]
    requireDeadline: true
  - namespaces: [team-*]
    images: ["registry.example/lora/*"]
    baseModels: ["hf://meta-llama/*"]
    maxGPUs: 8
"""
RULE = "policy: {rules: [{namespaces: [team-a], %s}]}"
WRONG = [
    ("policies: {}", "policies: no such field; write one of policy"),
    ("policy: {rule: []}", "policy.rule: no such field; write one of rules"),
    (
        RULE % "image: [x]",
        "policy.rules[0].image: no such field; write one of baseModels datasets endpoints envNames images",
    ),
    (RULE % "maxGPUs: '4'", "policy.rules[0].maxGPUs: Input should be a valid integer (got '4')"),
    (RULE % "maxGPUs: -1", "policy.rules[0].maxGPUs: Input should be greater than or equal to 0"),
    (RULE % "requireQueue: 1", "policy.rules[0].requireQueue: Input should be a valid boolean (got '1')"),
    (
        RULE % "images: registry.example/*",
        "policy.rules[0].images: Input should be a valid array (got 'registry.example/*')",
    ),
    (RULE % "images: ['r.example/**']", "policy.rules[0].images[0]: only * is special"),
    (
        RULE % "baseModels: ['models/*']",
        "policy.rules[0].baseModels[0]: write a URI that starts with one of hf:// s3://",
    ),
    (RULE % "outputs: ['s3://a/../b']", "policy.rules[0].outputs[0]: write the place itself, without . and .. in it"),
    ("policy: {rules: [{images: []}]}", "policy.rules[0].namespaces: Field required"),
    ("policy: {rules: [{namespaces: []}]}", "policy.rules[0].namespaces: Tuple should have at least 1 item"),
    (RULE % "images: [a], images: ['*']", "images is written twice"),
    ("[]", "the file: Input should be an object"),
    ("policy: [", "cannot be read as YAML or JSON"),
]


def test_a_file_is_read_as_yaml_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD)
    policy = read_policy(tmp_path / "config.yaml")
    assert [rule.name for rule in policy.rules] == ["everybody", None]
    assert (policy.rules[1].images, policy.rules[1].max_gpus) == (("registry.example/lora/*",), 8)
    (tmp_path / "config.json").write_text(json.dumps({"policy": policy.wire()}))
    assert read_policy(tmp_path / "config.json") == policy
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_policy(tmp_path / "empty.yaml") == Policy()


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[each[1] for each in WRONG])
def test_a_wrong_file_is_refused_with_field_and_fix(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as error:
        read_policy(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("text", [None, *(text for text, _ in WRONG)])
def test_a_wrong_or_missing_file_ends_the_operator_with_2_and_one_line(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as end:
        read_config(["--trainer-image", "a"], {"LORA_CONFIG": str(path)})
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_flag_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD)
    arguments = ["--trainer-image", "a", "--config", str(tmp_path / "config.yaml")]
    assert len(read_config(arguments, {}).policy.rules) == 2
    assert read_config(["--trainer-image", "a"], {}).policy == Policy()


IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
ELECTION = [
    ([], {}, False),
    ([], IN_CLUSTER, True),
    ([], IN_CLUSTER | {"LORA_LEADER_ELECTION": "false"}, False),
    ([], {"LORA_LEADER_ELECTION": "true"}, True),
    (["--leader-election"], {"LORA_LEADER_ELECTION": "false"}, True),
    (["--no-leader-election"], IN_CLUSTER, False),
]


@pytest.mark.parametrize(("arguments", "environment", "elects"), ELECTION)
def test_a_leader_is_elected_in_a_cluster(arguments: list[str], environment: dict[str, str], elects: bool) -> None:
    assert read_config(["--trainer-image", "a", *arguments], environment).leader_election is elects


def test_a_wrong_word_for_the_election_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(["--trainer-image", "a"], {"LORA_LEADER_ELECTION": "no"})
    assert capsys.readouterr().err == "lora-operator: error: LORA_LEADER_ELECTION: 'no' is neither true nor false\n"


def test_the_lease_lies_beside_the_pod_and_names_it(tmp_path: Path) -> None:
    arguments, file = ["--trainer-image", "a"], tmp_path / "namespace"
    assert read_config(arguments, {}, file).lease_namespace == "default"
    file.write_text("lora-system\n")
    config = read_config(arguments, {"POD_NAME": "operator-1"}, file)
    assert (config.lease_namespace, config.lease_name, config.identity) == (
        "lora-system",
        "lora-operator",
        "operator-1",
    )
    chosen = read_config(arguments, {"POD_NAME": "x", "LORA_IDENTITY": "mine", "LORA_LEASE_NAMESPACE": "other"}, file)
    assert (chosen.lease_namespace, chosen.identity) == ("other", "mine")
    assert read_config(arguments, {}).identity != read_config(arguments, {}).identity


def test_traces_go_nowhere_unless_told() -> None:
    arguments = ["--trainer-image", "a"]
    assert read_config(arguments, {}).otlp_endpoint is None
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert read_config(arguments, environment).otlp_endpoint == "http://collector:4318"
    assert read_config([*arguments, "--otlp-endpoint", "http://other"], environment).otlp_endpoint == "http://other"
