"""The download program: `python -m lora_agent.download`, one request on standard input, answers on standard output.

A program of its own, because boto3 takes more memory than the rest of the agent, and because keys then live in a short
process only. It writes into the one folder it is told, prints no environment and no traceback, and ends when its
standard input is closed, which is when the agent is gone.
"""

import os
import sys
import threading
from pathlib import Path

from pydantic import ValidationError

from lora_agent.faults import Fault
from lora_agent.transfer.fill import Filling
from lora_agent.transfer.folder import Folder
from lora_agent.transfer.hub import HubFolder
from lora_agent.transfer.local import LocalFolder
from lora_agent.transfer.protocol import DownloadRequest, FaultError, Line, fault_error, fault_line, plain_uri
from lora_agent.transfer.secrets import read_token
from lora_api.exit_codes import ExitCode
from lora_api.reasons import Reason

_NICENESS = 10
"""The engine beside has the processors first."""


def main() -> int:
    """Carry out one request; the exit code is 0 also for a download that failed in an orderly way."""
    os.nice(_NICENESS)
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer

    def report(line: Line) -> None:
        answers.write(line.encode())
        answers.flush()

    try:
        request = DownloadRequest.model_validate_json(sys.stdin.readline())
    except ValidationError:
        return ExitCode.INVALID_REQUEST
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        report(Line(record=Filling(request, open_folder(request), report).run()))
    except FaultError as error:
        report(fault_line(error.fault))
    except Exception as error:
        message = f"{plain_uri(request.uri)}: the download failed ({type(error).__name__})"
        report(fault_line(Fault(Reason.INTERNAL_ERROR, message, permanent=False)))
    return ExitCode.DONE


def open_folder(request: DownloadRequest) -> Folder:
    """Return the access to the folder of a request. Raises `FaultError`."""
    secrets = Path(request.secrets)
    match request.uri.partition("://")[0]:
        case "s3":
            from lora_agent.transfer.s3 import S3Folder  # noqa: PLC0415 - boto3 takes a second, and only S3 needs it

            return S3Folder(request.uri, request.storage, secrets)
        case "hf":
            token = read_token(secrets, request.token_secret_ref) if request.token_secret_ref else None
            return HubFolder(request.uri, request.revision, token)
        case "file":
            return LocalFolder(request.uri)
    message = f"{plain_uri(request.uri)}: write s3://bucket/path or hf://owner/name"
    raise fault_error(Reason.INVALID_SPEC, message, permanent=True)


def _end_with(lifeline: int) -> None:
    while os.read(lifeline, 1):  # below Python's own buffer, whose lock a thread must not hold at the end
        pass
    os._exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
