"""What `kubectl lora plan` asks the operator's preview, and what that answers: one JSON object each way.

`python -m lora_operator.preview` reads the question on stdin and writes the answer to stdout. The two may come from
different releases where somebody has mixed them, so the version is looked at before all else.
"""

from typing import Annotated, Any, Final

from pydantic import Field

from lora_api.base import ApiModel, ShortString

PREVIEW_VERSION: Final = 1
"""Of question and answer. Whoever changes a field of either raises it."""
PREVIEW_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid of a LoRAJob that does not exist yet; an API server takes it in a dry run."""


class PreviewRequest(ApiModel):
    """A LoRAJob, and what the operator would know of it."""

    version: int = PREVIEW_VERSION
    """Of this format."""
    job: dict[str, Any]
    """The LoRAJob: as it was written, or as the API server has it, with its uid, generation and status."""
    namespace: ShortString
    """Namespace of the LoRAJob."""
    trainer_image: ShortString
    """The operator's image for jobs that name none."""
    config: str | None = None
    """Text of the operator's configuration file; empty if it has none, None if that is not known."""


class Refusal(ApiModel):
    """Why the operator would not follow the LoRAJob."""

    reason: str
    """One of `lora_api.reasons.Reason`."""
    message: str
    """Which field is wrong, in one sentence."""
    hint: str = ""
    """What would help."""


class PublishedAdapter(ApiModel):
    """The LoRAAdapter that a run makes when it has succeeded. Its digest is not known before."""

    name: str
    """Name of the object."""
    served_name: str
    """Name by which clients ask for it."""


class PreviewAnswer(ApiModel):
    """What the operator would do."""

    version: int = PREVIEW_VERSION
    """Of this format."""
    objects: list[dict[str, Any]] = []
    """What it would create, in its order."""
    adapter: PublishedAdapter | None = None
    """What comes when the run has succeeded."""
    refusal: Refusal | None = None
    """Why it would create nothing."""
    rules: Annotated[int | None, Field(ge=0)] = None
    """Rules of the policy that are for the namespace; None if the policy is not known, or not asked: see `notes`."""
    config_fault: str = ""
    """What is wrong with the configuration file: field, value and fix."""
    notes: list[str] = []
    """What a reader of the objects must know."""
