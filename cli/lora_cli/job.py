"""From the YAML of a LoRAJob to the job file of the trainer, with the checks that the API server would make.

The very file of the cluster is read, so nothing is asked for twice; each error names the field as the file has it.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lora_api.crd import MAX_JOB_NAME
from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import API_VERSION
from lora_cli.errors import invalid

KIND = "LoRAJob"
DEFAULT_NAMESPACE = "default"
_FIELDS = {"apiVersion", "kind", "metadata", "spec", "status"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SHOWN_FAULTS = 5


class _Loader(yaml.SafeLoader):
    """YAML without dates, which JSON and therefore the API do not have: a revision `2024-05-01` is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_job(path: Path, namespace: str | None = None, output: str | None = None, *, cpu: bool = False) -> JobFile:
    """Return the first run of the LoRAJob in a file.

    `namespace` and `output` replace those of the file; `cpu` asks for no GPU. Raises `CliError` (64).
    """
    document = _parse(path)
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name")
    if not isinstance(name, str) or len(name) > MAX_JOB_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"{path}: metadata.name: {name!r} is no name of a LoRAJob",
            f"use at most {MAX_JOB_NAME} lower-case letters, digits and dashes",
        )
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise invalid(f"{path}: spec is missing", "write spec.baseModel, spec.dataset and spec.output")
    if output:
        spec["output"] = _object(spec, "output", path) | {"uri": output}
    if cpu:
        spec["resources"] = _object(spec, "resources", path) | {"gpus": 0}
    space = namespace or metadata.get("namespace") or DEFAULT_NAMESPACE
    if not isinstance(space, str) or not _NAME.fullmatch(space):
        raise invalid(f"{path}: metadata.namespace: {space!r} is no name of a namespace", "use lower-case letters")
    return JobFile(namespace=space, name=name, spec=_validated(spec, path))


def _parse(path: Path) -> dict[str, Any]:
    try:
        documents = [each for each in yaml.load_all(path.read_bytes(), Loader=_Loader) if each is not None]
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}", "name the file of a LoRAJob with -f") from None
    except yaml.YAMLError as error:
        raise invalid(f"{path}: it is no YAML: {_one_line(error)}") from None
    if len(documents) != 1:
        raise invalid(f"{path}: it holds {len(documents)} documents", "name a file with one LoRAJob")
    (document,) = documents
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
        return LoRAJobSpec.model_validate(spec)
    except ValidationError as error:
        raise invalid(f"{path}: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    faults = [f"{'.'.join(['spec', *map(str, each['loc'])])}: {each['msg']}" for each in error.errors()]
    more = len(faults) - _SHOWN_FAULTS
    return "; ".join(faults[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + str(getattr(error, "problem", None) or type(error).__name__)
