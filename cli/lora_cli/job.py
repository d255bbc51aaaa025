"""From the YAML of a LoRAJob to the job file of the trainer, with the checks that the API server would make.

The very file of the cluster is read, so nothing is asked for twice; each error names the field as the file has it.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lora_api.contradictions import contradictions
from lora_api.crd import MAX_JOB_NAME
from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import API_VERSION
from lora_cli.errors import invalid
from lora_cli.faults import faults

KIND = "LoRAJob"
DEFAULT_NAMESPACE = "default"
_FIELDS = {"apiVersion", "kind", "metadata", "spec", "status"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class _Loader(yaml.SafeLoader):
    """YAML without dates, which JSON and therefore the API do not have: a revision `2024-05-01` is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Described:
    """A LoRAJob of a file: as it was written, and as it is understood."""

    document: dict[str, Any]
    job: JobFile


def read_job(path: Path, namespace: str | None = None, output: str | None = None, *, cpu: bool = False) -> JobFile:
    """Return the first run of the LoRAJob in a file.

    `namespace` and `output` replace those of the file; `cpu` asks for no GPU. Raises `CliError` (64).
    """
    documents = _parse(path)
    if len(documents) != 1:
        raise invalid(f"{path}: it holds {len(documents)} documents", "name a file with one LoRAJob")
    (document,) = documents
    _metadata(document, path)
    spec = _spec(document, path)
    if output:
        spec["output"] = _object(spec, "output", path) | {"uri": output}
    if cpu:
        spec["resources"] = _object(spec, "resources", path) | {"gpus": 0}
    return _understood(document, path, namespace)


def read_jobs(path: Path, namespace: str) -> list[Described]:
    """Return the LoRAJobs of a file, or of stdin if it is `-`; `namespace` is that of jobs that name none.

    Raises `CliError` (64).
    """
    documents = _parse(path)
    if not documents:
        raise invalid(f"{path}: it holds no documents", "name a file with LoRAJobs")
    return [Described(each, _understood(each, path, None, namespace)) for each in documents]


def _understood(document: dict[str, Any], path: Path, namespace: str | None, default: str = "") -> JobFile:
    metadata, name = _metadata(document, path)
    spec = _spec(document, path)
    space = namespace or metadata.get("namespace") or default or DEFAULT_NAMESPACE
    if not isinstance(space, str) or not _NAME.fullmatch(space):
        raise invalid(f"{path}: metadata.namespace: {space!r} is no name of a namespace", "use lower-case letters")
    return JobFile(namespace=space, name=name, spec=_validated(spec, path))


def _metadata(document: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Return the metadata and the name. Raises `CliError` when it is no name of a LoRAJob."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name")
    if not isinstance(name, str) or len(name) > MAX_JOB_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"{path}: metadata.name: {name!r} is no name of a LoRAJob",
            f"use at most {MAX_JOB_NAME} lower-case letters, digits and dashes",
        )
    return metadata, name


def _spec(document: dict[str, Any], path: Path) -> dict[str, Any]:
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise invalid(f"{path}: spec is missing", "write spec.baseModel, spec.dataset and spec.output")
    return spec


def _parse(path: Path) -> list[dict[str, Any]]:
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        documents = [each for each in yaml.load_all(content, Loader=_Loader) if each is not None]
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}", "name the file of a LoRAJob with -f") from None
    except yaml.YAMLError as error:
        raise invalid(f"{path}: it is no YAML: {_one_line(error)}") from None
    return [_lorajob(each, path) for each in documents]


def _lorajob(document: Any, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("kind") != KIND or document.get("apiVersion") != API_VERSION:
        raise invalid(f"{path}: it holds no {KIND} of {API_VERSION}", "check apiVersion and kind")
    unknown = sorted(map(str, document.keys() - _FIELDS))
    if unknown:
        raise invalid(f"{path}: {unknown[0]}: there is no such field", "a LoRAJob has metadata and spec")
    return document


def _object(spec: dict[str, Any], field: str, path: Path) -> dict[str, Any]:
    value = spec.get(field) or {}
    if not isinstance(value, dict):
        raise invalid(f"{path}: spec.{field}: it is no object")
    return value


def _validated(spec: dict[str, Any], path: Path) -> LoRAJobSpec:
    try:
        understood = LoRAJobSpec.model_validate(spec)
    except ValidationError as error:
        raise invalid(f"{path}: {'; '.join(faults(error))}") from None
    if found := contradictions(understood):
        raise invalid(f"{path}: {'; '.join(f'{each.message}; {each.hint}' for each in found)}")
    return understood


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + str(getattr(error, "problem", None) or type(error).__name__)
