"""`kubectl lora plan -f FILE`: what a LoRAJob would be, without making it.

Settings with their defaults, the API server's verdict by a dry run, the objects that the operator would create and the
verdict of its policy by the operator's own preview, and the memory estimate of the trainer's preflight. Nothing is
trained and nothing is kept in the cluster; the preflight leaves its report in a temporary folder.
"""

import argparse
import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.messages import Resolved
from lora_api.preview import PreviewAnswer, PreviewRequest
from lora_api.reasons import Reason
from lora_cli.cluster.connection import Cluster, Document
from lora_cli.cluster.operator import OperatorSettings, find_operator
from lora_cli.commands.common import cluster_of, show, show_json
from lora_cli.commands.submit import apply, check_namespaces
from lora_cli.display import say
from lora_cli.errors import FAILED, CliError, failed, refusals_as_failures, wrong_usage
from lora_cli.job import Described, read_jobs
from lora_cli.local import default_work_folder, missing_trainer_parts, prepare
from lora_cli.parser import add_cluster, add_file, add_output
from lora_cli.preview import ask_preview
from lora_cli.render.objects import object_lines, yaml_documents
from lora_cli.render.plan import PolicyVerdict, preflight_lines, settings_lines
from lora_cli.trainer import run_trainer

_OPERATOR_NAMESPACE = "lora-system"
_ABOUT = (
    "Shows what would run: settings with their defaults, what the API server says to a dry run, the objects that the "
    "operator would create, the verdict of its policy, and the memory estimate of the trainer's preflight if the "
    "trainer is installed here. Changes nothing."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plan", help="show what a LoRAJob would be, and change nothing", description=_ABOUT)
    add_file(parser)
    parser.add_argument("--objects", action="store_true", help="only the objects, as YAML for kubectl apply --dry-run")
    parser.add_argument("--no-preflight", action="store_true", help="no memory estimate: reads neither base nor data")
    parser.add_argument("--offline", action="store_true", help="asks no cluster")
    parser.add_argument("--operator-config", metavar="FILE", help="the operator's configuration file, for its policy")
    parser.add_argument(
        "--operator-namespace",
        metavar="NAME",
        default=_OPERATOR_NAMESPACE,
        help=f"where the operator runs; default: {_OPERATOR_NAMESPACE}",
    )
    add_cluster(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Plan each LoRAJob of the file; 1 when one of them would not run."""
    if chosen.objects and chosen.output == "json":
        raise wrong_usage("--objects and -o json are two forms of one output", "give one; the JSON has the objects too")
    config = _config_file(chosen.operator_config)
    cluster = None if chosen.offline else cluster_of(chosen)
    with refusals_as_failures():
        space = cluster.namespace if cluster else chosen.namespace or "default"
        jobs = read_jobs(Path(chosen.filename), space)
    check_namespaces(jobs, chosen.namespace)
    planner = _Planner(chosen, cluster, config)
    plans = [planner.plan(each) for each in jobs]
    if chosen.output == "json":
        show_json([each.wire() for each in plans])
    return FAILED if any(each.refused for each in plans) else 0


def _config_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise failed(f"{path}: {error.strerror}", "name the operator's configuration file") from None
    except UnicodeDecodeError:
        raise failed(f"{path}: it is no text in UTF-8", "name the operator's configuration file") from None


@dataclass
class _Plan:
    """What is known of one job."""

    described: Described
    server: str = "not asked: --offline"
    operator: OperatorSettings = field(default_factory=OperatorSettings)
    trainer_image: str = ""
    answer: PreviewAnswer = field(default_factory=PreviewAnswer)
    policy: PolicyVerdict = field(default_factory=PolicyVerdict)
    preflight: Resolved | str = ""
    refused: list[str] = field(default_factory=list)

    def wire(self) -> Document:
        """Return it as JSON values."""
        job, answer = self.described.job, self.answer
        return {
            "namespace": job.namespace,
            "name": job.name,
            "spec": job.spec.wire(),
            "server": self.server,
            "operator": {"source": self.operator.source, "trainerImage": self.trainer_image},
            "objects": answer.objects,
            "adapter": answer.adapter.wire() if answer.adapter else None,
            "notes": answer.notes,
            "policy": self.policy.wire(),
            "preflight": self.preflight if isinstance(self.preflight, str) else self.preflight.wire(),
            "refused": self.refused,
        }


class _Planner:
    """Plans one job after another, and prints the parts of each as they are known."""

    def __init__(self, chosen: argparse.Namespace, cluster: Cluster | None, config: str | None) -> None:
        self._chosen, self._cluster, self._config = chosen, cluster, config
        self._operators: dict[str, OperatorSettings] = {}
        self._as_text = chosen.output == "text" and not chosen.objects

    def plan(self, described: Described) -> _Plan:
        """Return the plan of one job."""
        job, planned = described.job, _Plan(described)
        self._show([f"LoRAJob {job.namespace}/{job.name}", *settings_lines(job, described.document["spec"])])
        document = self._ask_server(planned)
        self._show([f"API server: {planned.server}"])
        self._ask_operator(planned, document)
        if self._chosen.objects:
            _show_objects(planned)
            return planned
        self._show(_operator_lines(planned))
        self._ask_trainer(planned)
        return planned

    def _show(self, lines: list[str]) -> None:
        if self._as_text:
            show(lines)

    def _ask_server(self, planned: _Plan) -> Document:
        """Return the LoRAJob as the operator would see it: as the API server has it, else as it was written."""
        described = planned.described
        if self._cluster is None:
            return _as_written(described.document)
        try:
            after = apply(self._cluster, described, dry_run=True)
        except CliError as error:
            planned.server = str(error)
            planned.refused.append(planned.server)
            return _as_written(described.document)
        generation = after["metadata"].get("generation", 1)
        planned.server = f"accepted by CRD, CEL and admission, as generation {generation}"
        exists = (after.get("status") or {}).get("run") or "deletionTimestamp" in after["metadata"]
        return after if exists else _as_written(after)

    def _ask_operator(self, planned: _Plan, document: Document) -> None:
        operator = self._operator(planned.described.job.namespace)
        planned.operator, planned.trainer_image = operator, operator.trainer_image or default_trainer_image()
        planned.answer = ask_preview(
            PreviewRequest(
                job=document,
                namespace=planned.described.job.namespace,
                trainer_image=planned.trainer_image,
                config=operator.config,
            )
        )
        if planned.answer.config_fault and self._config is not None:
            raise failed(f"{self._chosen.operator_config}: {planned.answer.config_fault}")
        planned.policy = _verdict(planned.answer, operator, planned.described.job.namespace)
        if refusal := planned.answer.refusal:
            planned.refused.append(_sentence(refusal.message, refusal.hint))

    def _operator(self, namespace: str) -> OperatorSettings:
        if namespace not in self._operators:
            found = OperatorSettings(unknown="no cluster is asked (--offline)")
            if self._cluster is not None:
                found = find_operator(self._cluster, self._chosen.operator_namespace, namespace)
            if self._config is not None:
                source = self._chosen.operator_config
                found = replace(found, config=self._config, config_source=source, unknown="")
            self._operators[namespace] = found
        return self._operators[namespace]

    def _ask_trainer(self, planned: _Plan) -> None:
        if self._chosen.no_preflight:
            found, why = None, "not asked: --no-preflight"
        else:
            found, why = _preflight(planned.described.job)
        if why.startswith("refused"):
            planned.refused.append(why)
        planned.preflight = found or why
        self._show(["preflight:", *preflight_lines(found)] if found else [f"preflight: {why}"])


def default_trainer_image() -> str:
    """Return the image of the manifests of this release."""
    try:
        return f"lora-trainer:{version('lora-operator')}"
    except PackageNotFoundError:
        return "lora-trainer"


def _as_written(document: Document) -> Document:
    """Return what a user decides of a LoRAJob, without what only a cluster knows."""
    metadata = {name: document["metadata"][name] for name in ("name", "annotations") if name in document["metadata"]}
    return {"metadata": metadata, "spec": document["spec"]}


def _verdict(answer: PreviewAnswer, operator: OperatorSettings, namespace: str) -> PolicyVerdict:
    """Return what the policy says: of a refusal for another reason it is not known whether it would allow the job."""
    if answer.rules is None and operator.config is not None and not answer.config_fault:
        return PolicyVerdict("Unknown", "the operator does not ask it of a LoRAJob for which nothing is created")
    if answer.rules is None:
        fault = f"{operator.config_source} cannot be used: {answer.config_fault}" if answer.config_fault else ""
        way_out = "ask who runs the operator or give --operator-config FILE"
        return PolicyVerdict("Unknown", f"{operator.unknown or fault}; {way_out}")
    refusal = answer.refusal
    if refusal is None and not operator.config_source:
        return PolicyVerdict("Allowed", f"{operator.source} has no configuration file", 0)
    if refusal is None:
        return PolicyVerdict.allowed(answer.rules, operator.config_source, namespace)
    if refusal.reason == Reason.NOT_ALLOWED:
        return PolicyVerdict("Refused", _sentence(refusal.message, refusal.hint), answer.rules)
    return PolicyVerdict("Unknown", "the operator does not understand the spec", answer.rules)


def _sentence(message: str, hint: str) -> str:
    return f"{message}; {hint}" if hint else message


def _operator_lines(planned: _Plan) -> list[str]:
    """Return the objects and the policy's verdict."""
    answer, image = planned.answer, planned.trainer_image
    known = f"trainer image {image}" if planned.operator.trainer_image else f"trainer image taken as {image}"
    lines = [f"operator: {planned.operator.source or 'not known'}, {known}"]
    lines += [f"note: {each}" for each in answer.notes]
    if answer.refusal:
        lines.append(f"objects: none: {answer.refusal.reason}")
    elif answer.objects:
        lines += ["objects:", *object_lines(answer.objects, answer.adapter)]
    else:
        lines.append("objects: none")
    if answer.refusal and answer.refusal.reason != Reason.NOT_ALLOWED:
        lines.append(f"refused: {_sentence(answer.refusal.message, answer.refusal.hint)}")
    return [*lines, planned.policy.line()]


def _show_objects(planned: _Plan) -> None:
    """Print the objects alone on stdout; what else a reader must know goes to stderr."""
    job = planned.described.job
    print(yaml_documents(planned.answer.objects), end="")
    told = [*planned.answer.notes, *planned.refused]
    if planned.policy.verdict == "Unknown":
        told.append(planned.policy.line())
    for each in told:
        say(f"{job.namespace}/{job.name}: {each}")


def _preflight(job: JobFile) -> tuple[Resolved | None, str]:
    """Return what the trainer's preflight finds, or why there is none. It writes to a folder that goes."""
    if missing := missing_trainer_parts():
        return None, (
            f"not run: {', '.join(missing)} are not installed here (pip install 'lora-operator[cli,trainer]'); in the "
            "cluster it runs first, and kubectl get lorajob -o yaml shows status.resolved"
        )
    with tempfile.TemporaryDirectory(prefix="lora-plan-") as folder:
        spec = job.spec.model_copy(
            update={"output": job.spec.output.model_copy(update={"uri": f"file://{folder}/out"})}
        )
        work = prepare(job.model_copy(update={"spec": spec}), default_work_folder(), name="plan")
        ended = run_trainer("preflight", work, lambda _: None)
    if ended.code != ExitCode.DONE:
        words = ended.message
        reached = ended.code in (ExitCode.SERVICE_UNAVAILABLE, ExitCode.NO_PERMISSION, ExitCode.INTERNAL_ERROR)
        start = "not known" if reached else "refused"  # what cannot be reached from here may be reached by the pods
        return None, f"{start}: {words.message}" + (f"; {words.hint}" if words.hint else "")
    return ended.message.preflight, ""
