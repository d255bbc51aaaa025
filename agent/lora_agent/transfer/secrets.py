"""Reads keys and tokens from the Secrets that are mounted into the pod. Their values go to the one caller only."""

import re
from pathlib import Path

from lora_agent.transfer.protocol import FaultError, fault_error
from lora_api.base import SecretKeyReference
from lora_api.names import SECRETS_ANNOTATION
from lora_api.reasons import Reason

_KEY = re.compile(r"^(?!\.{1,2}$)[-._a-zA-Z0-9]+$")
"""What Kubernetes allows as a key of a Secret; nothing of it leads out of the folder."""


def read_token(secrets: Path, reference: SecretKeyReference) -> str:
    """Return the token of a key of a Secret. Raises `FaultError` when it is not there."""
    folder = secret_folder(secrets, reference.name)
    value = read_key(folder, reference.key)
    if not value:
        raise _not_found(f"the Secret {reference.name} has no key {reference.key}", "add the key to the Secret")
    return value


def secret_folder(secrets: Path, name: str) -> Path:
    """Return the folder of a Secret. Raises `FaultError` when the pod does not mount it, or it is empty."""
    folder = secrets / name
    if not folder.is_dir() or not any(not each.name.startswith("..") for each in folder.iterdir()):
        fix = f"create it, add it to the pod's annotation {SECRETS_ANNOTATION} and restart the pod"
        raise _not_found(f"the Secret {name} is not in the pod", fix)
    return folder


def read_key(folder: Path, key: str) -> str | None:
    """Return the text of one key without the line break that a file often ends with; None when it is not there."""
    if not _KEY.match(key):
        raise _not_found(f"{key!r} is no key of a Secret", "correct spec.source.tokenSecretRef.key")
    try:
        return (folder / key).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"the key {key} of the Secret {folder.name} cannot be read ({type(error).__name__})"
        raise _not_found(message, "write it as text") from None


def _not_found(message: str, fix: str) -> FaultError:
    return fault_error(Reason.SECRET_NOT_FOUND, f"{message}; {fix}")
