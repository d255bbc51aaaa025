"""`plan` without a cluster, and with one that plays back what it holds: objects, policy, and who may read what."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.preview import PREVIEW_UID, PreviewRequest
from lora_cli import main
from lora_cli.cluster.connection import Cluster
from lora_cli.commands import plan as command
from lora_cli.errors import CliError
from lora_cli.preview import ask_preview
from lora_cli.render.objects import object_lines
from support.samples import lorajob
from support.world import succeeded
from unit.cli.golden_text import assert_golden
from unit.cli.test_deployment import FILE, MOUNT, VOLUME, deployment
from unit.operator.test_golden import CASES, GOLDEN

Document = dict[str, Any]
IMAGE = "registry.example/lora/trainer:1"
RULES = """
policy:
  rules:
  - {name: everybody, namespaces: ["*"], maxGPUs: 4}
  - {name: team a, namespaces: [team-a], requireQueue: true}
"""
QUEUED = {"scheduling": {"queueName": "gpu"}}
OPERATOR = deployment(
    {"LORA_TRAINER_IMAGE": IMAGE, "LORA_CONFIG": FILE}, mounts=[MOUNT], volumes=[VOLUME]
)  # fmt: skip
POLICY = {"metadata": {"name": "policy"}, "data": {"config.yaml": RULES}}


class Answer:
    """An answer of the API server."""

    def __init__(self, status: int, document: Document) -> None:
        self.status, self._document = status, document

    def read(self) -> bytes:
        return json.dumps(self._document).encode()


class Api:
    """An API server that holds the objects of an operator, and takes every dry run."""

    def __init__(
        self,
        deployments: list[Document] | None = None,
        config_map: Document | None = None,
        forbidden: tuple[str, ...] = (),
        existing: Document | None = None,
    ) -> None:
        self._deployments = [OPERATOR] if deployments is None else deployments
        self._config_map, self._forbidden, self._existing = config_map, forbidden, existing or {}
        self.asked: list[str] = []

    def param_serialize(self, **request: Any) -> tuple[Any, ...]:
        return request["method"], request["resource_path"], dict(request["query_params"]), request["body"], None

    def call_api(self, method: str, path: str, query: Document, body: str, _: None, **__: Any) -> Answer:
        self.asked.append(f"{method} {path}")
        if any(each in path for each in self._forbidden):
            return Answer(403, {"message": 'User "x" cannot do it'})
        if method == "PATCH":
            assert query["dryRun"] == "All"
            document = json.loads(body)
            meta = {"uid": "of-the-dry-run", "generation": 1, "creationTimestamp": "2026-01-02T03:04:05Z"}
            return Answer(200, document | {"metadata": document["metadata"] | meta} | self._existing)
        if path.endswith("/deployments"):
            assert query["labelSelector"] == "app.kubernetes.io/component=controller"
            return Answer(200, {"items": self._deployments})
        if self._config_map is None:
            return Answer(404, {"details": {"name": path.rpartition("/")[2]}})
        return Answer(200, self._config_map)


Said = tuple[int, str, str]
Plan = Callable[..., Said]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """Return the command for one job in team-a: against an API server, or offline without one."""

    def run(*arguments: str, api: Api | None = None, job: Document | None = None, **spec: Any) -> Said:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(job or lorajob("bot", **spec)))
        monkeypatch.setattr(command, "cluster_of", lambda _: Cluster(api, "team-a"))
        place = ["--no-preflight", "-f", str(path), *([] if api else ["--offline", "-n", "team-a"])]
        code = main.run(["plan", *place, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def line(said: Said, start: str) -> str:
    return next(each for each in said[1].splitlines() if each.startswith(start))


def config_file(tmp_path: Path, text: str = RULES) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return str(path)


# --- objects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_line_for_each_object(case: str) -> None:
    documents = [yaml.safe_load(each.read_text()) for each in sorted((GOLDEN / case).glob("*.yaml"))]
    objects = [each for each in documents if each.get("kind") in ("Job", "Service")]
    assert_golden(f"objects-{case}", object_lines(objects, None))


def test_objects_alone_are_yaml_on_stdout(plan: Plan) -> None:
    code, out, err = plan("--objects", api=Api(config_map=POLICY), resources={"nodes": 2}, **QUEUED)
    assert (code, err) == (0, "")
    service, preflight, train = yaml.safe_load_all(out)
    assert [each["kind"] for each in (service, preflight, train)] == ["Service", "Job", "Job"]
    assert train["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert train["metadata"]["ownerReferences"][0]["uid"] == PREVIEW_UID  # and not that of the dry run


def test_what_objects_alone_do_not_say_is_on_stderr(plan: Plan) -> None:
    code, out, err = plan("--objects", api=Api(config_map=POLICY))
    assert (code, out) == (1, "")
    assert err.startswith("team-a/bot: spec.scheduling.queueName: is not set, and rule 'team a'")
    code, out, err = plan("--objects", suspend=True)
    assert (code, len(list(yaml.safe_load_all(out)))) == (0, 2)
    assert "spec.suspend is true" in err
    assert "policy: not known: " in err


def test_two_forms_of_one_output_are_wrong_usage(plan: Plan) -> None:
    assert plan("--objects", "-o", "json")[0] == 2


def test_a_value_that_steers_a_terminal_does_not(plan: Plan) -> None:
    evil = {"annotations": {"note": "a\u009b31m\u202e"}, "image": "registry.example/x\u009b31m"}
    for arguments in ((), ("--objects",)):
        _, out, err = plan(*arguments, pod=evil)
        assert not {"\u009b", "\u202e"} & set(out + err)


def test_json_has_everything(plan: Plan) -> None:
    code, out, _ = plan("-o", "json", api=Api(config_map=POLICY), **QUEUED)
    assert code == 0
    (planned,) = json.loads(out)
    assert [each["metadata"]["name"] for each in planned["objects"]] == ["bot-1-preflight", "bot-1-train"]
    assert planned["operator"] == {"source": "Deployment lora-system/lora-operator", "trainerImage": IMAGE}
    assert planned["adapter"] == {"name": "bot", "servedName": "bot"}
    message = "by 2 rules of ConfigMap lora-system/policy"
    assert planned["policy"] == {"verdict": "Allowed", "message": message, "rules": 2}
    assert (planned["refused"], planned["notes"]) == ([], [])


def test_a_run_that_exists_is_shown_as_it_goes_on(plan: Plan) -> None:
    status = {"observedGeneration": 1, "run": 3, "conditions": []}
    said = plan(api=Api([], existing={"status": status}))
    assert "note: run 3 " in said[1]
    assert "bot-3-train" in said[1]


def test_a_run_that_has_ended_is_not_judged(plan: Plan) -> None:
    said = plan(api=Api(config_map=POLICY, existing={"status": succeeded().job.status.wire()}))
    assert said[0] == 0
    assert line(said, "objects:") == "objects: none"
    assert line(said, "policy:").startswith("policy: not known: the operator does not ask it of a LoRAJob for which")


def test_a_status_in_the_file_counts_for_nothing(plan: Plan) -> None:
    job = lorajob("bot") | {"status": {"run": 7}}
    job["metadata"] |= {"uid": "x", "creationTimestamp": None}
    assert "bot-1-train" in plan(job=job)[1]


def test_a_spec_that_the_operator_does_not_understand_refuses_the_plan(plan: Plan) -> None:
    """As when an admission webhook, or a newer CRD, has put a field there."""
    said = plan(api=Api(config_map=POLICY, existing={"spec": lorajob("bot")["spec"] | {"newer": 1}}))
    assert said[0] == 1
    assert line(said, "objects:") == "objects: none: InvalidSpec"
    assert line(said, "refused:").startswith("refused: spec.newer: Extra inputs are not permitted")
    assert line(said, "policy:") == "policy: not known: the operator does not understand the spec"


# --- the policy -------------------------------------------------------------------------------------------------------


def test_the_policy_of_the_cluster(plan: Plan) -> None:
    api = Api(config_map=POLICY)
    said = plan(api=api, **QUEUED)
    assert said[0] == 0
    assert line(said, "operator:") == f"operator: Deployment lora-system/lora-operator, trainer image {IMAGE}"
    assert line(said, "policy:") == "policy: allowed by 2 rules of ConfigMap lora-system/policy"
    assert not any("secret" in each for each in api.asked)


def test_a_breach_refuses_the_plan_with_its_hint(plan: Plan) -> None:
    said = plan(api=Api(config_map=POLICY))
    assert said[0] == 1
    assert line(said, "objects:") == "objects: none: NotAllowed"
    assert line(said, "policy:") == (
        "policy: refused: spec.scheduling.queueName: is not set, and rule 'team a' of the operator's policy requires a "
        "queue; name a queue, or ask who runs the operator"
    )


WAY_OUT = "; ask who runs the operator or give --operator-config FILE"
UNKNOWN = [
    (Api(forbidden=("/configmaps/",)), "you may not read ConfigMap lora-system/policy"),
    (Api(forbidden=("/deployments",)), "you may not list Deployments in namespace lora-system"),
    (Api([]), "no operator runs in namespace lora-system; name its namespace with --operator-namespace"),
    (Api(), "there is no ConfigMap lora-system/policy"),
    (Api(config_map={"data": {"other": ""}}), "ConfigMap lora-system/policy has no config.yaml"),
    (
        Api([deployment({"LORA_NAMESPACES": "team-b"})]),
        (
            "Deployment lora-system/lora-operator does not serve namespace team-a; if another does, name its namespace "
            "with --operator-namespace"
        ),
    ),
    (
        Api([OPERATOR, OPERATOR]),
        "several operators serve it: lora-operator, lora-operator in namespace lora-system",
    ),
    (
        Api([deployment({"LORA_CONFIG": FILE})]),
        f"its configuration file {FILE} lies in no volume: Deployment lora-system/lora-operator",
    ),
    (
        Api(config_map={"data": {"config.yaml": "policy: {rule: []}"}}),
        "ConfigMap lora-system/policy cannot be used: policy.rule: no such field; write one of rules",
    ),
]


@pytest.mark.parametrize(("api", "why"), UNKNOWN, ids=[each[1] for each in UNKNOWN])
def test_a_policy_that_is_not_known_says_why_and_is_no_refusal(plan: Plan, api: Api, why: str) -> None:
    said = plan(api=api)
    assert said[0] == 0
    assert line(said, "policy:") == f"policy: not known: {why}{WAY_OUT}"
    assert "bot-1-train" in said[1]


def test_an_operator_without_a_file_restricts_nothing(plan: Plan) -> None:
    said = plan(api=Api([deployment({"LORA_TRAINER_IMAGE": IMAGE})]))
    assert line(said, "policy:") == ("policy: allowed: Deployment lora-system/lora-operator has no configuration file")


def test_rules_for_others_restrict_nothing(plan: Plan, tmp_path: Path) -> None:
    path = config_file(tmp_path, "policy: {rules: [{namespaces: [team-b], requireQueue: true}]}")
    said = plan("--operator-config", path)
    assert line(said, "policy:") == f"policy: allowed: no rule of {path} is for namespace team-a"


def test_the_operator_of_another_namespace(plan: Plan) -> None:
    api = Api([])
    plan("--operator-namespace", "team-a-lora", api=api)
    assert "GET /apis/apps/v1/namespaces/team-a-lora/deployments" in api.asked


def test_a_file_goes_before_the_cluster(plan: Plan, tmp_path: Path) -> None:
    path = config_file(tmp_path, "policy: {rules: [{namespaces: [team-a], requireDeadline: true}]}")
    said = plan("--operator-config", path, api=Api(config_map=POLICY), **QUEUED)
    assert said[0] == 1
    assert "requires a deadline" in line(said, "policy:")
    allowed = plan("--operator-config", path, failurePolicy={"activeDeadlineSeconds": 60})
    assert line(allowed, "policy:") == f"policy: allowed by 1 rule of {path}"
    assert (
        line(allowed, "operator:") == f"operator: not known, trainer image taken as {command.default_trainer_image()}"
    )


def test_offline_nothing_is_known_of_a_policy(plan: Plan) -> None:
    assert line(plan(), "policy:") == f"policy: not known: no cluster is asked (--offline){WAY_OUT}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policy: {rules: [{namespaces: [a], maxGpus: 1}]}", "policy.rules[0].maxGpus: no such field; write one of "),
        (
            "policy: {rules: [{namespaces: [a], maxGPUs: x}]}",
            "policy.rules[0].maxGPUs: Input should be a valid integer",
        ),
        ("a: b: c", "cannot be read as YAML or JSON: "),
    ],
)
def test_a_wrong_file_is_one_line_with_field_and_fix(plan: Plan, tmp_path: Path, text: str, words: str) -> None:
    path = config_file(tmp_path, text)
    code, _, err = plan("--operator-config", path)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"kubectl-lora: {path}: {words}")


def test_a_file_that_cannot_be_read_is_one_line(plan: Plan, tmp_path: Path) -> None:
    missing = plan("--operator-config", str(tmp_path / "none"))
    assert (missing[0], missing[1], missing[2].count("\n")) == (1, "", 1)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "it is no text in UTF-8" in plan("--operator-config", str(tmp_path / "binary"))[2]


# --- the preview as another process -----------------------------------------------------------------------------------

QUESTION = PreviewRequest(job=lorajob("bot"), namespace="team-a", trainer_image=IMAGE)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('[]')", "answers in version None, and version 1 is expected"),
        ("print('{\"version\": 2}')", "answers in version 2, and version 1 is expected"),
        ('print(\'{"version": 1, "object": []}\')', "answers with a field that is not as expected: object"),
        ("print('x')", "answers with something that is no JSON"),
        ("print('\\xff')", "answers with something that is no JSON"),
        ("raise ValueError('odd')", "ended with code 1: ValueError: odd"),
        ("import os; os._exit(3)", "ended with code 3: without a word"),
        ("import os; os.kill(os.getpid(), 9)", "ended with code -9: without a word"),
    ],
)
def test_an_answer_that_is_none_is_one_line(program: str, words: str) -> None:
    with pytest.raises(CliError, match="pip install") as error:
        ask_preview(QUESTION, (sys.executable, "-c", program))
    assert str(error.value).startswith(f"the operator's preview {words}")
    assert error.value.exit_code == 1


def test_a_preview_of_another_release_says_so() -> None:
    with pytest.raises(CliError, match=r"^lora_operator\.preview: version: the question has version 2"):
        ask_preview(QUESTION.model_copy(update={"version": 2}))


def test_a_program_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CliError, match="cannot be started: No such file"):
        ask_preview(QUESTION, ("/no/such/python",))


def test_a_folder_of_the_same_name_does_not_stand_in_for_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lora_operator").mkdir()
    (tmp_path / "lora_operator" / "__init__.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert len(ask_preview(QUESTION).objects) == 2
