"""The job file: what a trainer is told, in a pod or on a laptop.

The spec with its defaults filled in, and who asks. `lora-trainer preflight|train|cleanup --job FILE` is all the
interface there is.
"""

from typing import Annotated

from pydantic import Field

from lora_api.base import ApiModel
from lora_api.lorajob import LoRAJobSpec


class JobFile(ApiModel):
    """Content of `/etc/lora/job.json`."""

    namespace: Annotated[str, Field(min_length=1)]
    """Namespace of the LoRAJob."""
    name: Annotated[str, Field(min_length=1)]
    """Name of the LoRAJob."""
    uid: str = ""
    """UID of the LoRAJob; empty on a laptop."""
    run: Annotated[int, Field(ge=1)] = 1
    """Number of the run."""
    image: str = ""
    """Image that the pod runs, for the manifest; empty on a laptop."""
    spec: LoRAJobSpec
    """What is asked for."""

    def encode(self) -> str:
        """Return the JSON with every default written out, in a stable order, on one line as annotations are."""
        return self.model_dump_json(by_alias=True, exclude_none=True)
