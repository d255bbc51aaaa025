"""Asks the operator's preview what it would do with a LoRAJob: a process of its own, as the trainer is one.

All that is shared with it is `lora_api.preview`. The job goes over stdin, since its variables are nobody's business.
"""

import json
import os
import subprocess
import sys

from pydantic import ValidationError

from lora_api.preview import PREVIEW_VERSION, PreviewAnswer, PreviewRequest
from lora_cli.errors import CliError, failed

# -P: a folder that the command is called in must not stand in for the operator's package.
COMMAND = (sys.executable, "-P", "-m", "lora_operator.preview")
_SECONDS = 60
"""It computes for a fraction of a second; a machine may be busy."""
_NOT_UNDERSTOOD = 2
"""Its exit code for a question that it does not understand; its line says what to do."""
_REINSTALL = "install it anew: pip install 'lora-operator[cli]'"


def ask_preview(request: PreviewRequest, command: tuple[str, ...] = COMMAND) -> PreviewAnswer:
    """Return the answer. Raises `CliError` when there is none that can be understood."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, our own module
            command,
            input=request.model_dump_json(by_alias=True).encode(),
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},  # its answer is JSON, whatever this terminal takes
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_answer(f"did not answer within {_SECONDS} seconds", "try again") from None
    except OSError as error:
        raise _no_answer(f"cannot be started: {error.strerror}", _REINSTALL) from None
    words = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == _NOT_UNDERSTOOD and words:
        raise failed(words[-1])
    if done.returncode != 0:
        raise _no_answer(f"ended with code {done.returncode}: {words[-1] if words else 'without a word'}", _REINSTALL)
    return _understood(done.stdout)


def _understood(answer: bytes) -> PreviewAnswer:
    try:
        said = json.loads(answer)
        version = said.get("version") if isinstance(said, dict) else None
        if version != PREVIEW_VERSION:
            raise _no_answer(f"answers in version {version}, and version {PREVIEW_VERSION} is expected", _REINSTALL)
        return PreviewAnswer.model_validate(said)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise _no_answer(f"answers with a field that is not as expected: {field}", _REINSTALL) from None
    except ValueError:
        raise _no_answer("answers with something that is no JSON", _REINSTALL) from None


def _no_answer(what: str, hint: str) -> CliError:
    return failed(f"the operator's preview {what}", hint)
