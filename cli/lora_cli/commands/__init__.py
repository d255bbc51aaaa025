"""The commands, one a module: `add` says what it understands, `run` does it and returns the exit code.

A command puts the parts together: it asks the cluster or S3, lets a pure function decide or draw, and prints.
"""

from types import ModuleType

from lora_cli.commands import (
    adapters,
    completion,
    logs,
    plan,
    plot,
    reproduce,
    run,
    submit,
    verify,
    watch,
    why,
)
from lora_cli.commands import (
    list as list_command,
)

COMMANDS: tuple[ModuleType, ...] = (
    submit, plan, run, list_command, watch, logs, why, adapters, verify, plot, reproduce, completion,
)  # fmt: skip
"""In the order of a job's life, as the help shows them."""
