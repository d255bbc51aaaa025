"""Errors of disks and of the web: each becomes an exit code, the place, and what to change."""

import errno
import os

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.storage.local import explain
from lora_trainer.storage.location import Location
from lora_trainer.storage.web import Web

WHERE = Location("pvc://data/rows.jsonl", "spec.dataset.train.uri")

CASES = [
    (errno.ENOENT, ExitCode.INPUT_NOT_FOUND),
    (errno.EACCES, ExitCode.NO_PERMISSION),
    (errno.EPERM, ExitCode.NO_PERMISSION),
    (errno.EROFS, ExitCode.NO_PERMISSION),
    (errno.ENOSPC, ExitCode.DISK_FULL),
    (errno.EDQUOT, ExitCode.DISK_FULL),
    (errno.EISDIR, ExitCode.INVALID_REQUEST),
    (errno.ENAMETOOLONG, ExitCode.INVALID_REQUEST),
    (errno.EIO, ExitCode.SERVICE_UNAVAILABLE),
    (errno.ESTALE, ExitCode.SERVICE_UNAVAILABLE),
]


@pytest.mark.parametrize(("number", "code"), CASES, ids=[errno.errorcode[number] for number, _ in CASES])
def test_an_error_of_the_file_system_becomes_an_exit_code_with_place_and_fix(number, code):
    explained = explain(OSError(number, os.strerror(number)), WHERE)
    assert explained.exit_code == code
    assert explained.message.startswith("spec.dataset.train.uri: pvc://data/rows.jsonl: ".rstrip(": "))
    assert explained.hint


@pytest.mark.parametrize("uri", ["https://me:secret@host/rows.jsonl", "https:///rows.jsonl"])
def test_a_web_address_with_a_password_or_without_a_host_is_refused_and_not_quoted(uri):
    with pytest.raises(TrainerError) as refused:
        Web().read(Location(uri, "spec.dataset.train.uri"))
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST
    assert "secret" not in str(refused.value)


def test_the_web_has_no_listings():
    with pytest.raises(TrainerError, match=r"spec\.dataset\.train\.uri: https://host/folder cannot be listed"):
        Web().list_files(Location("https://host/folder", "spec.dataset.train.uri"))
