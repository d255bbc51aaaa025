"""The base of all API types, and the bounded strings, quantities and references they are made of.

Python sees snake_case, the wire sees camelCase. Unknown fields are errors. Every string and list is bounded, because
the API server refuses CEL rules over unbounded values. A rule that one object can prove is written here as CEL
(`rule(...)`), beside the field it guards; the API server enforces it, so there is no validating webhook.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MAX_URI_LENGTH: Final = 1024
QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"


class ApiModel(BaseModel):
    """One object of the API: strict about names, immutable, camelCase on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        use_enum_values=False,
    )

    def wire(self) -> dict[str, Any]:
        """Return the object as JSON values with camelCase names, without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """One object that is also read back from the API server, possibly written by a newer version."""

    model_config = ConfigDict(extra="ignore")


def rule(expression: str, message: str) -> dict[str, str]:
    """Return one CEL rule for `x-kubernetes-validations`. The message says what to write instead."""
    return {"rule": expression, "message": message}


def rules(*validations: dict[str, str]) -> dict[str, Any]:
    """Return the schema extra that carries CEL rules."""
    return {"x-kubernetes-validations": list(validations)}


@dataclass(frozen=True)
class UriRule:
    """Marks a string as a URI of certain forms: `Annotated[str, UriRule(pattern, message)]`.

    In the CRD it becomes CEL and not `pattern`, because only CEL can say in words what is right. In Python the same
    pattern gives the same words.
    """

    pattern: str
    message: str
    local: str = ""
    """Start of URIs that Python accepts besides, and the CRD does not: they mean something on a laptop only."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the pattern after the string itself."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the string with its bounds and its rule."""
        literal = self.pattern.replace("\\", "\\\\")  # CEL unescapes its string literals once
        described = dict(handler(schema))
        described |= {"minLength": 1, "maxLength": MAX_URI_LENGTH}
        return described | rules(rule(f"self.matches('{literal}')", self.message))

    def _check(self, value: str) -> str:
        if self.local and value.startswith(self.local) and len(value) <= MAX_URI_LENGTH:
            return value
        if len(value) > MAX_URI_LENGTH or not re.search(self.pattern, value):
            raise PydanticCustomError("uri", "{message}", {"message": self.message})
        return value


ShortString = Annotated[str, StringConstraints(min_length=1, max_length=253)]
ServedName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_-]|\.[A-Za-z0-9_-])*$"),
]
"""A model name as clients write it, which engines also use as the name of a folder: no slash, colon or double dot."""
LongString = Annotated[str, StringConstraints(max_length=4096)]
ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
    StringConstraints(max_length=32, pattern=QUANTITY),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
        }
    ),
]
FreeObject = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object of another API that is passed on as it is and checked by the API server when it is used."""


class SecretReference(ApiModel):
    """A Secret of the job's own namespace."""

    name: ObjectName
    """Name of the Secret."""


class SecretKeyReference(ApiModel):
    """One key of a Secret of the job's own namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: ShortString = "token"
    """Key within the Secret. Default: token."""
