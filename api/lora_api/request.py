"""What a manifest keeps of the spec that was asked for, so that the adapter can be trained again: pure.

An artifact travels further than its LoRAJob, so nothing that could open something is kept: no Secret, no environment,
no user, query or fragment of a web address. Nothing of the attempt either: the same spec gives the same request,
whatever the job is called, and however often it was interrupted.
"""

from typing import Any

from lora_api.artifacts import ManifestRequest
from lora_api.lorajob import RESULT_FIELDS, LoRAJobSpec

_KEPT: dict[str, Any] = dict.fromkeys(RESULT_FIELDS, True) | {"resources": {"gpus", "gpu_resource_name", "nodes"}}
"""What decides the result, and the devices, whose number and kind decide how it is rounded."""
REQUEST_FIELDS = frozenset(str(LoRAJobSpec.model_fields[name].alias) for name in _KEPT)
"""Names of the fields that a request may have, as the wire has them."""
_SECRETS = {"base_model": {"token_secret_ref"}}
_WEB = ("https://", "http://")


def request_of(spec: LoRAJobSpec) -> ManifestRequest:
    """Return what the manifest of an artifact of this spec keeps of it."""
    # Read back once: a default may be an integer where a value that was read is a float.
    read = LoRAJobSpec.model_validate_json(spec.model_dump_json(by_alias=True, exclude_none=True))
    withheld = ["baseModel.tokenSecretRef"] if read.base_model.token_secret_ref else []
    dumped = read.model_dump(mode="json", by_alias=True, include=_KEPT, exclude=_SECRETS, exclude_none=True)
    return ManifestRequest(spec=_kept(dumped, "", withheld), withheld=withheld)


def public_uri(uri: str) -> str:
    """Return a URI; of a web address without user, query and fragment, which may hold a key or a signature.

    In all others `?`, `#` and `@` are parts of a name, or of a pattern.
    """
    scheme = next((each for each in _WEB if uri.startswith(each)), None)
    if scheme is None:
        return uri
    bare = uri.removeprefix(scheme).partition("?")[0].partition("#")[0]
    authority, slash, path = bare.partition("/")
    return f"{scheme}{authority.rpartition('@')[2]}{slash}{path}"


def _kept(value: Any, field: str, withheld: list[str]) -> Any:
    """Return a value as it is kept, with its keys in order; the fields that lost something are added to `withheld`."""
    if isinstance(value, dict):
        return {name: _kept(value[name], f"{field}.{name}" if field else name, withheld) for name in sorted(value)}
    if isinstance(value, list):
        return [_kept(each, f"{field}[{index}]", withheld) for index, each in enumerate(value)]
    if isinstance(value, str) and (public := public_uri(value)) != value:
        withheld.append(field)
        return public
    return value
