"""What `plan` is told of the operator: the very objects of its passes, the policy's verdict, and nothing else."""

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import yaml

from lora_api.names import ARTIFACTS_FINALIZER, QUEUE_LABEL, RESTART_ANNOTATION
from lora_api.preview import PREVIEW_UID, PREVIEW_VERSION, PreviewAnswer, PreviewRequest, PublishedAdapter
from lora_api.reasons import Reason
from lora_operator.domain.observed import Stage
from lora_operator.preview.answer import QuestionError, answer, read_question
from support.samples import lorajob
from support.world import SETTINGS, START, UID, World, accepted, ended, succeeded, training
from unit.operator.test_golden import CASES, GOLDEN, dump

Document = dict[str, Any]


def question(job: Document, config: str | None = "", namespace: str = "team-a") -> PreviewRequest:
    return PreviewRequest(job=job, namespace=namespace, trainer_image=SETTINGS.trainer_image, config=config)


def preview(config: str | None = "", **spec: Any) -> PreviewAnswer:
    return answer(question(lorajob("bot", **spec), config), START)


def names(found: PreviewAnswer) -> list[str]:
    return [f"{each['kind']}/{each['metadata']['name']}" for each in found.objects]


def as_the_server_has_it(world: World, **spec: Any) -> Document:
    """Return the LoRAJob of a world with its status, and with another spec if one is given."""
    job = world.job
    generation = job.generation + 1 if spec else job.generation
    metadata = {"name": job.name, "uid": job.uid, "generation": generation}
    return lorajob(job.name, **spec) | {"metadata": metadata, "status": job.status.wire()}


# --- the objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_objects_are_those_that_the_operator_writes(case: str) -> None:
    """But for the LoRAAdapter, which only a run knows, and the time that is left of a deadline when training begins."""
    folder = GOLDEN / case
    document = yaml.safe_load((folder / "lorajob.yaml").read_text())
    document["metadata"] |= {"uid": UID}
    found = answer(question(document), START)
    written = {each.name: each.read_text() for each in folder.glob("*.yaml") if each.name.startswith(("job-", "serv"))}
    assert {_file_name(each): _without_time_left(dump(each)) for each in found.objects} == {
        name: _without_time_left(text) for name, text in written.items()
    }
    deadline = (document["spec"].get("failurePolicy") or {}).get("activeDeadlineSeconds")
    assert {each["spec"].get("activeDeadlineSeconds") for each in found.objects if each["kind"] == "Job"} == {deadline}


def _file_name(document: Document) -> str:
    stage = document["metadata"]["labels"].get("lora-operator.io/stage")
    return f"job-{stage}.yaml" if stage else f"{document['kind'].lower()}.yaml"


def _without_time_left(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("  activeDeadlineSeconds: "))


def test_a_job_that_does_not_exist_has_a_uid_that_stands_for_its_own() -> None:
    (preflight, train) = preview().objects
    for each in (preflight, train):
        assert each["metadata"]["ownerReferences"][0]["uid"] == PREVIEW_UID


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["Job/bot-1-preflight", "Job/bot-1-train"]),
        ({"preflight": {"enabled": False}}, ["Job/bot-1-train"]),
        ({"resources": {"nodes": 2}}, ["Service/bot-1", "Job/bot-1-preflight", "Job/bot-1-train"]),
        ({"resources": {"gpus": 4}}, ["Job/bot-1-preflight", "Job/bot-1-train"]),
        ({"deletionPolicy": "Delete"}, ["Job/bot-1-preflight", "Job/bot-1-train"]),
    ],
)
def test_which_objects(spec: Document, expected: list[str]) -> None:
    assert names(preview(**spec)) == expected


def test_several_nodes_and_gpus() -> None:
    train = preview(resources={"gpus": 8, "nodes": 2}).objects[-1]["spec"]
    container = train["template"]["spec"]["containers"][0]
    assert (train["parallelism"], train["completionMode"]) == (2, "Indexed")
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "8"
    assert "shared-memory" in {each["name"] for each in train["template"]["spec"]["volumes"]}


def test_a_queue_of_kueue() -> None:
    for each in preview(scheduling={"queueName": "gpu"}).objects:
        assert each["metadata"]["labels"][QUEUE_LABEL] == "gpu"
        assert each["spec"]["suspend"] is True


def test_volumes() -> None:
    volumes = preview(baseModel={"uri": "pvc://bases/llama", "cacheClaimName": "cache"}).objects[-1]["spec"]
    claims = [each.get("persistentVolumeClaim") for each in volumes["template"]["spec"]["volumes"]]
    assert [each["claimName"] for each in claims if each] == ["bases", "cache"]


@pytest.mark.parametrize(
    ("spec", "adapter"),
    [
        ({}, PublishedAdapter(name="bot", served_name="bot")),
        ({"adapter": {"name": "other", "servedName": "Chat"}}, PublishedAdapter(name="other", served_name="Chat")),
        ({"adapter": {"create": False}}, None),
    ],
)
def test_the_adapter_that_comes_of_it(spec: Document, adapter: PublishedAdapter | None) -> None:
    assert preview(**spec).adapter == adapter


def test_a_suspended_job_is_shown_as_it_will_be() -> None:
    found = preview(suspend=True)
    assert found.objects == preview().objects
    assert found.notes == ["spec.suspend is true: nothing is created until it is false"]


# --- the policy -------------------------------------------------------------------------------------------------------

TWO_RULES = """
policy:
  rules:
  - {name: everybody, namespaces: ["*"], maxGPUs: 4}
  - {name: team a, namespaces: [team-a], requireQueue: true}
  - {name: others, namespaces: [team-b], images: []}
"""


def test_allowed_by_two_rules() -> None:
    found = preview(TWO_RULES, scheduling={"queueName": "gpu"})
    assert (found.refusal, found.rules, len(found.objects)) == (None, 2, 2)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"scheduling": {"queueName": "gpu"}, "resources": {"gpus": 8}},
            "spec.resources.gpus: 8, and rule 'everybody'",
        ),
        ({}, "spec.scheduling.queueName: is not set, and rule 'team a'"),
    ],
)
def test_forbidden_by_either(spec: Document, words: str) -> None:
    found = preview(TWO_RULES, **spec)
    assert found.refusal is not None
    assert found.refusal.reason == Reason.NOT_ALLOWED
    assert found.refusal.message.startswith(words)
    assert found.refusal.hint.endswith("or ask who runs the operator")
    assert (found.objects, found.adapter, found.rules) == ([], None, 2)


def test_the_image_of_the_operator_is_always_allowed() -> None:
    config = "policy: {rules: [{namespaces: [team-a], images: []}]}"
    assert preview(config, pod={"image": SETTINGS.trainer_image}).refusal is None
    assert preview(config, pod={"image": "evil.example/x"}).refusal is not None


@pytest.mark.parametrize(("config", "rules"), [(None, None), ("", 0), ("# nothing\n", 0), ("policy: {}", 0)])
def test_a_policy_that_is_not_known_is_not_a_policy_without_rules(config: str | None, rules: int | None) -> None:
    assert (preview(config).rules, len(preview(config).objects)) == (rules, 2)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            "policy: {rules: [{namespaces: [a], image: [x]}]}",
            "policy.rules[0].image: no such field; write one of baseModels",
        ),
        ("policies: {}", "policies: no such field; write one of policy"),
        ("policy: [", "cannot be read as YAML or JSON: "),
        ("policy: &a [*a]", "cannot be read as YAML or JSON: "),
        ("!!map [1]", "cannot be read as YAML or JSON: "),
        ("[" * 5000, "cannot be read as YAML or JSON: "),
        ("policy: !!python/object/apply:os.getpid []", "cannot be read as YAML or JSON: "),
    ],
)
def test_a_wrong_file_is_one_line_and_no_policy(config: str, words: str) -> None:
    found = preview(config)
    assert found.config_fault.startswith(words)
    assert "\n" not in found.config_fault
    assert (found.rules, len(found.objects)) == (None, 2)


# --- a job that exists ------------------------------------------------------------------------------------------------


def test_another_adapter_is_another_run() -> None:
    document = as_the_server_has_it(training(), lora={"rank": 4})
    found = answer(question(document), START)
    assert names(found) == ["Job/support-bot-2-preflight", "Job/support-bot-2-train"]
    assert found.notes == ["run 1 makes way for run 2: another adapter, or a restart, is asked for"]


def test_a_restart_is_another_run() -> None:
    document = as_the_server_has_it(succeeded())
    document["metadata"] |= {"annotations": {RESTART_ANNOTATION: "now"}}
    assert names(answer(question(document), START)) == ["Job/support-bot-2-preflight", "Job/support-bot-2-train"]


def test_a_run_that_goes_on_keeps_what_it_has_used_of_its_limits() -> None:
    world = training(failurePolicy={"maxFailures": 3, "activeDeadlineSeconds": 3600})
    document = as_the_server_has_it(world)
    document["spec"]["failurePolicy"] = {"maxFailures": 3, "activeDeadlineSeconds": 3600}
    document["status"]["attempts"] = {"failures": 2, "disruptions": 0}
    found = answer(question(document), START + timedelta(minutes=10))
    (train,) = found.objects
    assert (train["spec"]["backoffLimit"], train["spec"]["activeDeadlineSeconds"]) == (1, 3000)
    assert found.notes == ["run 1 goes on: what it has of its objects already is not made again"]


def test_a_run_that_goes_on_with_other_pods() -> None:
    document = as_the_server_has_it(accepted(), resources={"memory": "64Gi"})
    (note,) = answer(question(document), START).notes
    assert note.endswith("a Job that waits for its pod is made anew, one that runs is left alone")


def test_what_has_ended_or_goes_makes_nothing() -> None:
    over = answer(question(as_the_server_has_it(succeeded())), START)
    assert (over.objects, over.adapter, over.rules) == ([], None, None)
    assert over.notes == ["run 1 has ended, and the file asks for nothing else: nothing is created"]
    going = as_the_server_has_it(training())
    going["metadata"] |= {"deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": [ARTIFACTS_FINALIZER]}
    assert answer(question(going), START).notes == ["the LoRAJob is being deleted: nothing is created for it any more"]


def test_a_failed_run_goes_on_with_what_was_corrected() -> None:
    world = accepted().see_work(Stage.PREFLIGHT, ended(66), failed=True).settle()
    found = answer(question(as_the_server_has_it(world, resources={"memory": "64Gi"})), START)
    assert names(found) == ["Job/support-bot-1-preflight", "Job/support-bot-1-train"]
    assert found.notes == ["run 1 has failed, and goes on with what was corrected"]


# --- what cannot be understood ----------------------------------------------------------------------------------------

SECRET = "planted-value"


def test_a_spec_that_this_release_does_not_know_is_refused_as_the_operator_does() -> None:
    found = preview(lora={"rnak": 4})
    assert found.refusal is not None
    assert (found.refusal.reason, found.objects) == (Reason.INVALID_SPEC, [])
    assert "lora.rnak" in found.refusal.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the question: Invalid JSON"),
        ("[]", "the question: Input should be an object"),
        ('{"version": 1}', "the question.job: Field required"),
        ('{"version": 2, "jobs": []}', "version: the question has version 2, and this operator answers version 1"),
    ],
)
def test_a_question_that_is_none(text: str, words: str) -> None:
    with pytest.raises(QuestionError) as error:
        read_question(text)
    assert str(error.value).startswith(words)


def test_a_question_of_another_version_with_the_same_fields() -> None:
    text = question(lorajob()).model_copy(update={"version": PREVIEW_VERSION + 1}).model_dump_json(by_alias=True)
    with pytest.raises(QuestionError, match="of one release"):
        read_question(text)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "job.metadata: "),
        ({"metadata": {"labels": {}}}, "job.metadata.name: Field required"),
        ({"metadata": {"name": "bot", "annotations": [SECRET]}}, "job.metadata.annotations: "),
        ({"metadata": {"name": "bot", "annotations": {"a": {"b": SECRET}}}}, "job.metadata.annotations.a: "),
        ({"metadata": {"name": "bot"}, "status": {"run": SECRET}}, "job.status.run: "),
        ({"metadata": {"name": "bot", "creationTimestamp": "soon"}}, "job.metadata: "),
        ({"metadata": {"name": "bot", "creationTimestamp": 7}}, "job.metadata.creationTimestamp: "),
        ({"metadata": {"name": ""}}, "job.metadata.name: "),
        ({"metadata": {"name": "bot", "uid": [SECRET]}}, "job.metadata.uid: "),
        ({"metadata": {"name": "bot", "generation": SECRET}}, "job.metadata.generation: "),
        ({"metadata": {"name": "bot", "generation": -1}}, "job.metadata.generation: "),
        ({"metadata": {"name": "bot", "finalizers": True}}, "job.metadata.finalizers: "),
        ({"metadata": {"name": "bot"}, "status": [SECRET]}, "job.status: "),
        ({"metadata": {"name": "bot"}, "status": {"phase": [SECRET]}}, "job.status.phase: "),
    ],
)
def test_a_document_that_is_no_job_is_named_without_its_values(document: Document, words: str) -> None:
    with pytest.raises(QuestionError) as error:
        answer(question(document), START)
    assert str(error.value).startswith(words)
    assert SECRET not in str(error.value)


def test_what_a_file_leaves_empty_of_the_metadata_is_as_if_it_were_not_there() -> None:
    empty = dict.fromkeys(("uid", "generation", "finalizers", "annotations", "creationTimestamp", "resourceVersion"))
    job = lorajob("bot")
    assert answer(question(job | {"metadata": job["metadata"] | empty}), START) == answer(question(job), START)


# --- the program ------------------------------------------------------------------------------------------------------

_WITHOUT = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"kopf", "kubernetes", "aiohttp", "prometheus_client", "cryptography", "boto3"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
sys.argv = ["preview"]
runpy.run_module("lora_operator.preview", run_name="__main__")
"""


def ask(text: str) -> "subprocess.CompletedProcess[str]":
    """Run the program where nothing is installed but what `lora-operator[cli]` shares with it."""
    command = [sys.executable, "-P", "-c", _WITHOUT]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_answers_where_no_part_of_the_operators_own_is_installed() -> None:
    done = ask(question(lorajob("bot"), TWO_RULES).model_dump_json(by_alias=True))
    assert (done.returncode, done.stderr) == (0, "")
    said = PreviewAnswer.model_validate_json(done.stdout)
    assert said == preview(TWO_RULES)
    assert json.loads(done.stdout)["version"] == PREVIEW_VERSION


def test_the_program_says_what_it_does_not_understand_in_one_line() -> None:
    done = ask('{"version": 7}')
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("lora_operator.preview: version: the question has version 7")
