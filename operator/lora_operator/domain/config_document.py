"""The configuration file as text: YAML or JSON in, the policy out, or an error of one line that says what is wrong.

Strict on purpose. A restriction with a slip in its name, or one that is written twice, would restrict nothing. Pure:
whoever has the text reads it, the operator from its own file and a preview from anybody's.
"""

import json
from typing import Any, Final

import yaml
from pydantic import ConfigDict, ValidationError

from lora_api.base import ApiModel
from lora_operator.domain.policy import Policy, PolicyRule

_SHOWN_FAULTS: Final = 5


class ConfigFile(ApiModel):
    """The whole file. What differs from process to process, such as ports, is a flag and no part of it."""

    model_config = ConfigDict(strict=True)

    policy: Policy = Policy()
    """What jobs may ask for."""


_MODEL_OF_DEPTH: Final[dict[int, type[ApiModel]]] = {1: ConfigFile, 2: Policy, 4: PolicyRule}
"""Whose field a path such as `policy.rules[0].images` names, by its length."""


class ConfigError(Exception):
    """The text cannot be used; the message names field, value and what to write."""


def read_config_text(text: str) -> ConfigFile:
    """Return what a configuration file says. Raises `ConfigError`."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        # By way of JSON: YAML's own types, such as dates, are no part of the format.
        as_json = json.dumps({} if document is None else document, default=str)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # also one that contains itself
        raise ConfigError(f"cannot be read as YAML or JSON: {' '.join(str(error).split())}") from None
    try:
        return ConfigFile.model_validate_json(as_json)
    except ValidationError as error:
        raise ConfigError(_faults(error)) from None


class _Loader(yaml.SafeLoader):
    """YAML, of which JSON is a part, without keys that occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a second key of the same name, which would replace the first in silence."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    return "; ".join(_fault(each) for each in faults[:_SHOWN_FAULTS]) + more


def _fault(fault: Any) -> str:
    """Say which field is wrong, and how to correct it."""
    path = fault["loc"]
    where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path).lstrip(".") or "the file"
    if fault["type"] == "extra_forbidden":
        fields = _MODEL_OF_DEPTH[len(path)].model_fields.values()
        return f"{where}: no such field; write one of {' '.join(sorted(str(each.alias) for each in fields))}"
    got = "" if isinstance(fault["input"], dict | list) else f" (got {str(fault['input'])[:80]!r})"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}{got}"
