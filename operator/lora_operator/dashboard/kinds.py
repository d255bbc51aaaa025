"""The two kinds that the dashboard shows, each with the way from an object to a row and to a page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lora_operator.cluster.resources import LORAADAPTERS, LORAJOBS, Resource
from lora_operator.dashboard.adapter_views import adapter_detail, adapter_row
from lora_operator.dashboard.job_views import job_detail, job_row

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is read, and how it is shown."""

    resource: Resource
    row: Callable[[Document], Document]
    detail: Callable[[Document], Document]


KINDS: Final = {
    "jobs": Kind(LORAJOBS, job_row, job_detail),
    "adapters": Kind(LORAADAPTERS, adapter_row, adapter_detail),
}
"""By the word that stands in the URL."""
