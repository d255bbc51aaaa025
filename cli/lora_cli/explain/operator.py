"""Whether the operator has seen an object at all: pure."""

from lora_api.reasons import Reason
from lora_cli.explain.reading import last_change
from lora_cli.explain.snapshot import Snapshot, Standing, Verdict
from lora_cli.render.units import duration

_SEEN_SECONDS = 30
"""An operator that runs answers within a second; a new leader, or one that restarts, within half a minute."""
_HINT = (
    "see that it runs: `kubectl get pods -A -l app.kubernetes.io/name=lora-operator`, and that it serves the namespace"
)


def not_seen(snapshot: Snapshot, observed: int | None) -> Verdict | None:
    """Return the verdict on an object whose last change the operator has not seen; None when it has."""
    if observed is not None and observed >= snapshot.document["metadata"].get("generation", 1):
        return None
    since = last_change(snapshot.document)
    seconds = (snapshot.now - since).total_seconds() if since else _SEEN_SECONDS + 1.0
    what = "the last change of the object" if observed is not None else "the object"
    if seconds <= _SEEN_SECONDS:
        text = f"The operator has not looked at {what} yet, which was made {duration(max(0, seconds))} ago"
        return Verdict(Standing.WAITING, Reason.ACCEPTED, text, "wait a moment")
    return without_operator(f"The operator has not seen {what} for {duration(seconds)}")


def without_operator(what: str) -> Verdict:
    """Return the verdict on an object that nobody looks after."""
    return Verdict(Standing.TROUBLE, "OperatorSilent", f"{what}, so it does not seem to run", _HINT)
