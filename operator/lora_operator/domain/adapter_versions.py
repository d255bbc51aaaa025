"""Which version of an adapter is wanted, which one is served, and what is remembered of the others. Pure."""

from dataclasses import dataclass
from datetime import datetime

from lora_api.artifacts import short_digest
from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import (
    AdapterSource,
    AdapterVersion,
    BaseModelReference,
    LoRAAdapterSpec,
    LoRAAdapterStatus,
    VersionState,
)


@dataclass(frozen=True, slots=True)
class Version:
    """One content of an adapter, and where it lies."""

    digest: str
    """Empty while nobody has looked at a source without a digest."""
    source: AdapterSource
    base_model: BaseModelReference

    @property
    def short(self) -> str:
        """The digest as people read it."""
        return short_digest(self.digest) if self.digest else "the version without a digest yet"


class PinNotFoundError(Exception):
    """`spec.versions.pin` names a digest that nobody has seen."""


def wanted_version(spec: LoRAAdapterSpec, status: LoRAAdapterStatus, generation: int) -> Version:
    """Return the version that is to be served. Raises PinNotFoundError."""
    source = _version(spec, _source_digest(spec, status, generation))
    pin = spec.versions.pin
    if pin is None or pin == source.digest:
        return source
    for each in status.versions:
        if each.digest == pin:
            return Version(pin, each.source, each.base_model)
    known = ", ".join(short_digest(each.digest) for each in status.versions) or "none"
    raise PinNotFoundError(
        f"spec.versions.pin: {short_digest(pin)} is not in status.versions (there: {known}); pin one of those"
    )


def _version(spec: LoRAAdapterSpec, digest: str) -> Version:
    return Version(digest, spec.source, spec.base_model)


def _source_digest(spec: LoRAAdapterSpec, status: LoRAAdapterStatus, generation: int) -> str:
    """Return the digest of the source: as it is given, or as it was at the first use."""
    if spec.source.digest:
        return spec.source.digest
    for each in status.versions:
        if (each.source.uri, each.source.revision) == (spec.source.uri, spec.source.revision):
            return each.digest
    rollout = status.rollout
    return rollout.digest if rollout and rollout.generation == generation else ""


def served_version(status: LoRAAdapterStatus) -> Version | None:
    """Return the version that went to all pods last; new pods get it."""
    for each in status.versions:
        if each.state == VersionState.SERVING:
            return Version(each.digest, each.source, each.base_model)
    return None


def entry_of(name: str, spec: LoRAAdapterSpec, version: Version) -> DesiredAdapter:
    """Return what a pod is told to serve a version."""
    source = version.source
    return DesiredAdapter(
        name=name,
        served_name=spec.served_name or name,
        uri=source.uri,
        revision=source.revision,
        digest=version.digest or None,
        base_model=version.base_model,
        storage=source.storage,
        token_secret_ref=source.token_secret_ref,
        verify=spec.verify,
    )


def record(
    versions: list[AdapterVersion],
    version: Version,
    state: VersionState,
    now: datetime,
    *,
    limit: int,
    reason: str = "",
    message: str = "",
) -> list[AdapterVersion]:
    """Return the history with what became of a version, newest first; the one that is served is never dropped."""
    new = AdapterVersion(
        digest=version.digest,
        state=state,
        source=version.source.model_copy(update={"digest": version.digest}),
        base_model=version.base_model,
        time=now,
        reason=reason,
        message=message[:1024],
    )
    before = next((each for each in versions if each.digest == version.digest), None)
    if before and before.model_copy(update={"time": now}) == new:
        new = before
    others = [_superseded(each, state, now) for each in versions if each.digest != version.digest]
    kept = [new, *others]
    while len(kept) > limit and (dropped := _oldest_unserved(kept)) is not None:
        kept.remove(dropped)
    return kept


def _superseded(each: AdapterVersion, state: VersionState, now: datetime) -> AdapterVersion:
    if state == VersionState.SERVING and each.state == VersionState.SERVING:
        return each.model_copy(update={"state": VersionState.SUPERSEDED, "time": now})
    return each


def _oldest_unserved(versions: list[AdapterVersion]) -> AdapterVersion | None:
    return next((each for each in reversed(versions[1:]) if each.state != VersionState.SERVING), None)
