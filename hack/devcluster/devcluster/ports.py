"""Says who holds a port, so that a start fails with a name instead of a line deep in some log."""

import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from devcluster.shell import DevclusterError

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound
LISTEN = "0A"  # the kernel's TCP_LISTEN, in /proc/net/tcp


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket of this machine."""

    address: str
    port: int
    inode: str


def is_free(address: str, port: int) -> bool:
    """Whether `address:port` could be bound now."""
    return not any(conflicts(listener, address, port) for listener in listeners())


def check_free(name: str, address: str, port: int) -> None:
    """Raises with the holder's name if `address:port` cannot be bound."""
    for listener in listeners():
        if conflicts(listener, address, port):
            raise DevclusterError(taken_message(name, port, holder(listener.inode)))


def taken_message(name: str, port: int, who: str) -> str:
    return f"port {port} for {name} is taken by {who}: stop it first"


def conflicts(listener: Listener, address: str, port: int) -> bool:
    """Whether the kernel would refuse `address:port` because of this listener."""
    if listener.port != port:
        return False
    return listener.address in WILDCARDS or address in WILDCARDS or listener.address == address


def listeners() -> list[Listener]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if Path(table).exists():
            rows = Path(table).read_text().splitlines()[1:]
            found += [parse_row(row) for row in rows if row.split()[3] == LISTEN]
    return found


def parse_row(row: str) -> Listener:
    """One line of /proc/net/tcp: addresses are hexadecimal words in the byte order of the machine."""
    fields = row.split()
    host, port = fields[1].split(":")
    words = [int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8)]
    return Listener(str(ipaddress.ip_address(b"".join(words))), int(port, 16), fields[9])


def holder(inode: str) -> str:
    """`name (pid N)` of the process with this socket, as far as we may look."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_socket(process, inode):
            return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return "a process of another user"


def _has_socket(process: Path, inode: str) -> bool:
    try:
        return any(_link_target(entry) == f"socket:[{inode}]" for entry in (process / "fd").iterdir())
    except OSError:  # the process ended meanwhile, or is not ours to look into
        return False


def _link_target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - what a descriptor points to need not be a path
    except OSError:  # closed meanwhile
        return ""
