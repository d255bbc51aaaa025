"""`kubectl lora completion SHELL`: scripts that complete commands, options and names of the cluster."""

import argparse
from typing import Any, Final

from lora_cli.cluster.connection import Resource, connect
from lora_cli.complete import complete
from lora_cli.errors import CliError
from lora_cli.parser import Parser

ASKED: Final = "__complete"
"""The word by which a script asks what may follow."""
_BASH = """# bash completion of kubectl-lora: source <(kubectl lora completion bash)
_kubectl_lora() {
  local line candidates=()
  while IFS= read -r line; do candidates+=("$line"); done \\
    < <(kubectl-lora __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  local last=$((${#candidates[@]} - 1))
  [ "$last" -ge 0 ] || return
  [ "${candidates[last]}" = ":0" ] && compopt -o default 2>/dev/null
  COMPREPLY=("${candidates[@]:0:last}")
}
complete -F _kubectl_lora kubectl-lora
"""
_ZSH = """#compdef kubectl-lora
# zsh completion of kubectl-lora: source <(kubectl lora completion zsh)
_kubectl_lora() {
  local -a candidates
  candidates=("${(@f)$(kubectl-lora __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  local last=$candidates[-1]
  candidates=("${(@)candidates[1,-2]}")
  if [[ $last == ":0" ]]; then _files; else compadd -- $candidates; fi
}
compdef _kubectl_lora kubectl-lora
"""
_FISH = """# fish completion of kubectl-lora: kubectl lora completion fish | source
function __kubectl_lora
  set -l words (commandline -opc)
  kubectl-lora __complete $words[2..-1] (commandline -ct) 2>/dev/null | string match -v -r '^:[0-9]+$'
end
complete -c kubectl-lora -f -a '(__kubectl_lora)'
complete -c kubectl-lora -F \\
  -n 'string match -q -r -- "^(-f|-o|--file.*|--kubeconfig|--work|--operator-config)$" (commandline -opc)[-1]'
"""
_KUBECTL = """#!/bin/sh
# Completion of `kubectl lora`, for kubectl's own: save it as kubectl_complete-lora on the PATH, executable.
exec kubectl-lora __complete "$@"
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "kubectl": _KUBECTL}
_ABOUT = (
    "Prints a script. bash, zsh and fish complete `kubectl-lora`; kubectl is kubectl_complete-lora, by which "
    "the completion of kubectl itself completes `kubectl lora`."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("completion", help="print a script for completion in a shell", description=_ABOUT)
    parser.add_argument("shell", choices=tuple(_SCRIPTS), help="which script")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print the script."""
    print(_SCRIPTS[chosen.shell], end="")
    return 0


def show_completion(parser: Parser, words: list[str]) -> None:
    """Answer a script. A cluster that cannot be asked completes no names, and says nothing into the prompt."""
    found, directive = complete(parser, words, lambda resource: _names(resource, words))
    print("".join(f"{each}\n" for each in found) + f":{directive}", flush=True)


def _names(resource: Resource, words: list[str]) -> list[str]:
    try:
        cluster = connect(*(_value(words, *each) for each in _PLACE))
        return [each["metadata"]["name"] for each in cluster.list(resource)]
    except CliError:
        return []


_PLACE = (("--kubeconfig",), ("--context",), ("-n", "--namespace"))


def _value(words: list[str], *names: str) -> str | None:
    """Return the value of an option in a command line that is not finished."""
    for index, each in enumerate(words[:-1]):
        name, found, value = each.partition("=")
        if name in names:
            return value if found else words[index + 1]
    return None
