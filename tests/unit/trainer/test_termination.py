"""The end of the process: the exit code of any exception, and a message that fits and tells no data."""

import errno
import json

import pytest
import torch

from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_api.names import TERMINATION_MESSAGE_BYTES
from lora_trainer.errors import LostTouchError, TrainerError, bad_data
from lora_trainer.termination import as_trainer_error, failure_message, write_termination_message

SECRET = "zebra-stripes"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (bad_data("m"), ExitCode.BAD_DATA),
        (OSError(errno.ENOSPC, "No space left"), ExitCode.DISK_FULL),
        (OSError(errno.EIO, SECRET), ExitCode.INTERNAL_ERROR),
        (ValueError(SECRET), ExitCode.INTERNAL_ERROR),
        (KeyboardInterrupt(), ExitCode.INTERNAL_ERROR),
    ],
    ids=repr,
)
def test_every_exception_has_an_exit_code_and_an_unknown_one_tells_its_type_only(error, code):
    known = as_trainer_error(error)
    assert known.exit_code == code
    assert SECRET not in str(known)


def test_out_of_gpu_memory_has_its_own_code():
    import torch

    assert as_trainer_error(torch.cuda.OutOfMemoryError("CUDA")).exit_code == ExitCode.OUT_OF_GPU_MEMORY


@pytest.mark.parametrize("code", [code for code in ExitCode if code != ExitCode.DONE])
def test_every_code_has_a_reason(code):
    message = failure_message(TrainerError(code, "what", "fix"), step=3)
    assert message.reason
    assert (message.message, message.hint, message.step) == ("what", "fix", 3)


def test_the_message_replaces_what_the_termination_log_held_and_fits(tmp_path):
    path = tmp_path / "termination-log"
    path.write_bytes(b"x" * 9000)
    write_termination_message(failure_message(bad_data("ä" * 9000, "ö" * 9000), None), path)
    assert path.stat().st_size <= TERMINATION_MESSAGE_BYTES
    assert json.loads(path.read_bytes())["reason"] == "BadData"


def test_a_laptop_gets_a_line_on_stderr_and_no_file(tmp_path, capsys):
    path = tmp_path / "termination-log"
    write_termination_message(TerminationMessage(reason="BadData", message="what", hint="fix"), path)
    assert capsys.readouterr().err == "lora-trainer: BadData: what (fix)\n"
    assert not path.exists()


GLOO = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")


@pytest.mark.parametrize(
    ("error", "processes", "lost"),
    [
        (GLOO, 2, True),
        (torch.distributed.DistNetworkError("The client socket has timed out"), 2, True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), 2, True),
        (GLOO, 1, False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 2, False),
        (bad_data("what"), 2, False),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, False),
    ],
    ids=[
        "gloo",
        "rendezvous",
        "NCCL",
        "one process alone",
        "another error of torch",
        "a foreseen end",
        "out of memory",
    ],
)
def test_a_broken_collective_is_the_consequence_of_another_end(error, processes, lost, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    found = as_trainer_error(error)
    assert isinstance(found, LostTouchError) is lost
    assert (found.exit_code == ExitCode.INTERRUPTED) is lost
