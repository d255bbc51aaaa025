"""Explains what the API server refused: a Job of ours, or a pod that the Job controller wanted to make.

Each admission rule has words of its own. They are told apart here, so that the user reads which rule of the namespace
it was, what it wants, and which field gives it. Refused pods are tried again by the Job controller.
"""

import re
from collections.abc import Callable

from lora_api.reasons import Reason
from lora_operator.domain.errors import RefusedError, Stall
from lora_operator.domain.words import shown

_PREFIX = re.compile(r'^(Error creating: )?(?P<what>\S+ "[^"]*" is forbidden: |Internal error occurred: )?')
_GOES_ON = "the job goes on by itself"
_ASK = "ask who runs the cluster"


def explain_refused_pod(message: str) -> Stall:
    """Return why the Job controller cannot make a pod."""
    return _explain(message, "The pod") or Stall(
        Reason.POD_REFUSED,
        f"The pod was refused: {_plain(message)}",
        f"correct what the message names in spec.pod or spec.scheduling, or {_ASK}; {_GOES_ON}",
    )


def explain_refusal(error: RefusedError) -> Stall:
    """Return what the user can do about an object that the API server did not take."""
    if known := _explain(error.message, error.subject):
        return known
    message = f"{error.subject} was refused: {_plain(error.message)}"
    if error.status == 403:
        return Stall(Reason.POD_REFUSED, message, f"{_ASK}, or change what the message names; {_GOES_ON}")
    hint = f"correct the field that the message names, in spec.pod or spec.scheduling; {_GOES_ON}"
    return Stall(Reason.INVALID_SPEC, message, hint)


def _explain(message: str, subject: str) -> Stall | None:
    """Return the explanation of an admission rule that is known by its words."""
    for pattern, explain in _RULES:
        if found := pattern.search(message):
            return explain(found, subject)
    return None


def _plain(message: str) -> str:
    return shown(_PREFIX.sub("", message))


def _account(found: re.Match[str], _: str) -> Stall:
    name = found["name"]
    hint = f'create ServiceAccount "{name}" in the namespace, or correct spec.scheduling.serviceAccountName; {_GOES_ON}'
    return Stall(Reason.SERVICE_ACCOUNT_NOT_FOUND, f'ServiceAccount "{name}" does not exist', hint)


def _priority_class(found: re.Match[str], _: str) -> Stall:
    name = found["name"]
    hint = f"correct spec.scheduling.priorityClassName, or have the PriorityClass made; {_GOES_ON}"
    return Stall(Reason.POD_REFUSED, f'PriorityClass "{name}" does not exist', hint)


def _runtime_class(found: re.Match[str], _: str) -> Stall:
    name = found["name"]
    hint = f"correct spec.scheduling.runtimeClassName, or have the RuntimeClass made; {_GOES_ON}"
    return Stall(Reason.POD_REFUSED, f'RuntimeClass "{name}" does not exist', hint)


def _quota(found: re.Match[str], subject: str) -> Stall:
    """Say of each resource over the quota how much was asked for, is used, and is allowed."""
    requested, used, limited = (_amounts(found[group]) for group in ("requested", "used", "limited"))
    over = "; ".join(
        f"{name}: {amount} asked for, {used.get(name, '?')} of {limited.get(name, '?')} used"
        for name, amount in requested.items()
    )
    fields = dict.fromkeys(field for name in requested if (field := _field_of(name)))
    less = f"ask for less in {' and '.join(fields)}, " if fields else ""
    hint = f"{less}wait until other jobs have ended, or have the ResourceQuota raised; {_GOES_ON}"
    return Stall(Reason.QUOTA_EXCEEDED, f'{subject} is over the quota "{found["name"]}" of the namespace: {over}', hint)


def _some_quota(found: re.Match[str], subject: str) -> Stall:
    hint = f"wait until other jobs have ended, or have the ResourceQuota raised; {_GOES_ON}"
    return Stall(Reason.QUOTA_EXCEEDED, f"{subject} is over a quota of the namespace: {shown(found['what'])}", hint)


def _uncounted(found: re.Match[str], subject: str) -> Stall:
    """A quota refuses everything until it has been counted for the first time."""
    message = f'{subject} is refused while the quota "{found["name"]}" of the namespace is being counted'
    return Stall(Reason.QUOTA_EXCEEDED, message, f"wait a moment; {_GOES_ON}")


def _no_quota(found: re.Match[str], subject: str) -> Stall:
    """A cluster may give some resources, or priority classes, only to those who have a quota for them."""
    message = f"{subject} needs a quota of the namespace that covers {shown(found['what'])}, and there is none"
    return Stall(Reason.QUOTA_EXCEEDED, message, f"have a ResourceQuota for it made; {_GOES_ON}")


def _amounts(text: str) -> dict[str, str]:
    pairs = (each.partition("=") for each in text.split(","))
    return {name.strip(): amount.strip() for name, _, amount in pairs}


def _field_of(resource: str) -> str:
    """Return the field of a job that asks for a resource of a quota; nothing if no field does."""
    name = resource.removeprefix("requests.").removeprefix("limits.")
    if name in ("cpu", "memory"):
        return f"spec.resources.{name}"
    return "spec.resources.gpus" if "/" in name and not name.startswith("count/") else ""


def _unnamed(found: re.Match[str], subject: str) -> Stall:
    """A quota on a resource refuses pods that do not say how much of it they want."""
    what = shown(found["what"])
    message = f'{subject} does not meet the quota "{found["name"]}" of the namespace: it must specify {what}'
    own = "set spec.resources.cpu, which is the limit too, and " if "limits.cpu" in what else ""
    return Stall(
        Reason.QUOTA_EXCEEDED, message, f"{own}have a LimitRange of the namespace give a default for it; {_GOES_ON}"
    )


def _limit_range(found: re.Match[str], subject: str) -> Stall:
    names = dict.fromkeys(re.findall(r"(?:minimum|maximum) (\S+) usage per", found["what"]))
    fields = " and ".join(f"spec.resources.{name}" for name in names if name in ("cpu", "memory"))
    change = f"set {fields} within what it allows" if fields else "change what the message names"
    message = f"{subject} does not fit a LimitRange of the namespace: {shown(found['what'].strip('[]'))}"
    return Stall(Reason.POD_REFUSED, message, f"{change}, or have the LimitRange changed; {_GOES_ON}")


def _pod_security(found: re.Match[str], subject: str) -> Stall:
    message = f"{subject} violates the Pod Security level {found['level']} of the namespace: {shown(found['what'])}"
    hint = (
        "the pods of a LoRAJob pass the level restricted as they are made: find the admission webhook of the cluster "
        f"that adds what the message names, or have the label pod-security.kubernetes.io/enforce changed; {_GOES_ON}"
    )
    return Stall(Reason.POD_REFUSED, message, hint)


def _policy(found: re.Match[str], subject: str) -> Stall:
    message = f"{subject} was refused by the ValidatingAdmissionPolicy {found['name']}: {shown(found['what'])}"
    return Stall(
        Reason.POD_REFUSED, message, f"give what it wants in spec.pod or spec.scheduling, or {_ASK}; {_GOES_ON}"
    )


def _webhook(found: re.Match[str], subject: str) -> Stall:
    said = shown(found["what"] or "") or "without a reason"
    message = f'{subject} was refused by the admission webhook "{found["name"]}": {said}'
    return Stall(
        Reason.POD_REFUSED, message, f"give what it wants in spec.pod or spec.scheduling, or {_ASK}; {_GOES_ON}"
    )


def _silent_webhook(found: re.Match[str], subject: str) -> Stall:
    said = shown(found["what"])
    message = f'{subject} was refused because the admission webhook "{found["name"]}" does not answer: {said}'
    return Stall(Reason.POD_REFUSED, message, f"have the webhook repaired by who runs the cluster; {_GOES_ON}")


def _no_right(found: re.Match[str], subject: str) -> Stall:
    message = f"{subject} was refused, because the operator may not {found['verb']} {found['resource']}"
    return Stall(Reason.POD_REFUSED, message, f"have the operator's roles installed again by who runs it; {_GOES_ON}")


def _terminating(_: re.Match[str], subject: str) -> Stall:
    message = f"{subject} was refused, because the namespace is being deleted"
    return Stall(Reason.POD_REFUSED, message, "apply the LoRAJob in another namespace")


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str], Stall]], ...] = (
    (re.compile(r'serviceaccount "(?P<name>[^"]+)" not found'), _account),
    (re.compile(r"no PriorityClass with name (?P<name>\S+) was found"), _priority_class),
    (re.compile(r'RuntimeClass "(?P<name>[^"]+)" not found'), _runtime_class),
    (
        re.compile(
            r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>.*), used: (?P<used>.*), "
            r"limited: (?P<limited>\S*)"
        ),
        _quota,
    ),
    (re.compile(r"exceeded quota: (?P<what>.+)"), _some_quota),
    (re.compile(r"status unknown for quota: (?P<name>[^,]+)"), _uncounted),
    (re.compile(r"insufficient quota to (?:consume|match these scopes): (?P<what>.+)"), _no_quota),
    (re.compile(r"failed quota: (?P<name>[^:]+): must specify (?P<what>.+)"), _unnamed),
    (
        re.compile(r"is forbidden: (?P<what>\[?(?:(?:minimum|maximum) \S+ usage|\S+ max limit to request ratio).*)"),
        _limit_range,
    ),
    (re.compile(r'violates PodSecurity "(?P<level>[^"]+)": (?P<what>.+)', re.DOTALL), _pod_security),
    (re.compile(r"ValidatingAdmissionPolicy '(?P<name>[^']+)'.*? denied request: (?P<what>.+)", re.DOTALL), _policy),
    (re.compile(r'admission webhook "(?P<name>[^"]+)" denied the request(?:: (?P<what>.+))?', re.DOTALL), _webhook),
    (re.compile(r'failed calling webhook "(?P<name>[^"]+)": (?P<what>.+)', re.DOTALL), _silent_webhook),
    (re.compile(r'User "[^"]+" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'), _no_right),
    (re.compile(r"because it is being terminated"), _terminating),
)
"""Words of an admission rule, and what they mean; the first that is found decides."""
