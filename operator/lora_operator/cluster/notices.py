"""What the Job controller last said of the pods that it could not make, as the watch of events brings it.

Only events say it, and the API server reads all events of a namespace to answer for one Job: asked for each Job that
waits, it would be busy with nothing else. What is not known here may have been said all the same; it only explains.
"""

from collections import OrderedDict
from typing import NamedTuple

from lora_operator.domain.observed import Document

_MOST = 10_000
"""Jobs that are remembered; Kubernetes itself forgets an event after an hour."""


class Notice(NamedTuple):
    """One message."""

    time: str
    text: str


class Notices:
    """The newest message about each Job."""

    def __init__(self) -> None:
        """Know nothing."""
        self._known: OrderedDict[str, Notice] = OrderedDict()

    def hear(self, event: Document) -> None:
        """Take in an event of the Job controller."""
        uid = (event.get("involvedObject") or {}).get("uid") or ""
        time = event.get("lastTimestamp") or event.get("eventTime") or ""
        if uid in self._known and self._known[uid].time > time:
            return
        self._known[uid] = Notice(time, event.get("message") or "")
        self._known.move_to_end(uid)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def newest(self, job_uid: str, since: str = "") -> str:
        """Return the newest message about a Job that is not older than a time, or nothing."""
        found = self._known.get(job_uid)
        return found.text if found and found.time >= since else ""
