"""A process that has imported everything and forks a trainer for each request, because imports take most of a start.

The trainer is a process of its own that runs the command line's own `main` and is really killed. Requests come as JSON
lines on stdin; a line with the pid and, at its end, one with the exit code go to stdout. This process starts no thread,
as only the forking one would live on.
"""

import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

_IMPORTS = {
    "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "LlamaForCausalLM", "PreTrainedTokenizerFast", "Trainer"),
    "lora_trainer.train": (),
    "boto3": (),
    "peft": (),
}


def serve() -> None:
    """Answer requests until stdin ends."""
    with tempfile.TemporaryDirectory() as scratch:
        _import_everything(Path(scratch))
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _become_trainer(request)
            print(json.dumps({"pid": pid}), flush=True)
            # Only looked at: while it is a zombie its number is nobody else's, so a late kill hits no stranger.
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            print(json.dumps({"code": code}), flush=True)
            sys.stdin.readline()  # the other side knows that it is over
            os.waitpid(pid, 0)


def _import_everything(scratch: Path) -> None:
    from lora_trainer.workspace import Workspace, prepare_environment

    prepare_environment(Workspace(scratch, "imports"))  # before transformers, which reads the environment once
    for name, attributes in _IMPORTS.items():
        module = importlib.import_module(name)
        for attribute in attributes:  # transformers imports a class when it is asked for it
            getattr(module, attribute)


def _become_trainer(request: dict[str, Any]) -> None:
    """Run `lora-trainer train` in this process, and never return."""
    from lora_trainer import cli

    os.environ["LORA_SCRATCH"] = request["scratch"]
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # The one thing that differs from a pod, which has its network to itself.
    cli.serve_progress = functools.partial(cli.serve_progress, port=request["port"])
    sys.argv = ["lora-trainer", "train", "--job", request["job"]]
    cli.main()


if __name__ == "__main__":
    serve()
