"""Several pods of one run: how their launchers meet, and how each learns that another has gone.

The first pod listens, the others come to it, and when all are there it tells them where the processes meet. Then each
keeps its connection: one that breaks, or is silent too long, means that a pod has gone, whatever happened to it; no
library has to time out for that. Everything before the meeting is waited for, within a bound: a name that does not
resolve yet, a pod that comes minutes later, one that comes anew. Nothing that is received is trusted beyond its form.
"""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.logs import log

_BEAT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""Without a beat for so long, the other is gone: its node has no power or network. A pod that dies is seen at once."""
_HELLO_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_LONGEST_LINE = 1024
_BEAT, _DONE = {"say": "beat"}, {"say": "done"}


@dataclass(frozen=True)
class Place:
    """Where this pod stands among those of its run."""

    node: int
    """0 for the one that the others come to."""
    nodes: int
    address: str
    """Of the first pod."""
    port: int
    run: str
    """Tells the pods of this run from any others."""


class Link:
    """A connection to another launcher, over which JSON lines go."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""
        self._sending = threading.Lock()

    def send(self, words: dict[str, Any]) -> None:
        """Send a line. What cannot be sent is noticed by who reads."""
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(words).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line; None when the connection ended or nothing sensible came within the time."""
        deadline = time.monotonic() + seconds
        try:
            while b"\n" not in self._received:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self.socket.recv(_LONGEST_LINE)
                if not piece or len(self._received) > _LONGEST_LINE:
                    return None
                self._received += piece
            line, _, self._received = self._received.partition(b"\n")
            words = json.loads(line)
        except (OSError, ValueError):
            return None
        return words if isinstance(words, dict) else None

    @property
    def closed(self) -> bool:
        """Whether the other side has hung up, as far as can be seen without waiting."""
        try:
            readable = bool(select.select([self.socket], [], [], 0)[0])
            return readable and self.socket.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Peers:
    """The other pods, after the meeting. `address` and `port` are where the processes of all pods meet."""

    def __init__(
        self, links: Sequence[Link], address: str, port: int, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self.address, self.port = address, port
        self._links, self._silence = list(links), silence_seconds
        self._lost, self._closed = threading.Event(), threading.Event()
        self._done = [threading.Event() for _ in self._links]
        for link, done in zip(self._links, self._done, strict=True):
            threading.Thread(target=self._listen, args=(link, done), name="peer", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    @property
    def several(self) -> bool:
        """Whether there are other pods at all."""
        return bool(self._links)

    @property
    def lost(self) -> bool:
        """Whether another pod has gone before it was done."""
        return self._lost.is_set()

    def wait_lost(self, seconds: float) -> bool:
        """Wait for the news that another pod has gone; return whether it came."""
        return self._lost.wait(seconds if self.several else 0)

    def say_done(self) -> None:
        """Tell the others that this pod has ended well."""
        for link in self._links:
            link.send(_DONE)

    def wait_done(self) -> bool:
        """Wait until those that this pod is linked to have ended well; return False when one has gone before."""
        while not all(done.is_set() for done in self._done):
            if self._lost.wait(_LOOK_SECONDS):
                return all(done.is_set() for done in self._done)
        return True

    def close(self) -> None:
        """Hang up, which tells the others that this pod has gone, unless it said that it is done."""
        self._closed.set()
        for link in self._links:
            link.close()

    def _listen(self, link: Link, done: threading.Event) -> None:
        while (words := link.receive(self._silence)) is not None:
            if words == _DONE:
                done.set()
                return
        if not self._closed.is_set():
            self._lost.set()

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT_SECONDS):
            for link in self._links:
                link.send(_BEAT)


def meet(place: Place, seconds: float) -> Peers:
    """Wait for the other pods and return them. Raises `TrainerError` (75) when not all come within the time.

    A signal ends it where it is, if its handler raises.
    """
    if place.nodes == 1:
        return Peers([], "127.0.0.1", _free_port())
    log("waiting for the other pods", nodes=place.nodes, node=place.node, address=place.address, seconds=seconds)
    deadline = time.monotonic() + seconds
    peers = _gather(place, deadline) if place.node == 0 else _join(place, deadline)
    log("all pods have met", nodes=place.nodes)
    return peers


def _gather(place: Place, deadline: float) -> Peers:
    """Be the first pod: take the others in until all are there, then tell them where the processes meet."""
    links: dict[int, Link] = {}
    with _listening(place.port) as server:
        while True:
            links = {node: link for node, link in links.items() if not link.closed}
            if len(links) == place.nodes - 1:
                break
            if time.monotonic() > deadline:
                raise _not_all_came(f"{len(links) + 1} of {place.nodes} pods came")
            server.settimeout(_RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                _admit(place, links, Link(server.accept()[0]))
    port = _free_port()
    for link in links.values():
        link.send({"say": "start", "port": port})
    return Peers(list(links.values()), "127.0.0.1", port)


def _admit(place: Place, links: dict[int, Link], link: Link) -> None:
    """Keep a link if it is from a pod of this run; one that comes anew takes the place of its predecessor."""
    words = link.receive(_HELLO_SECONDS) or {}
    node = words.get("node")
    if words.get("run") != place.run or not isinstance(node, int) or not 0 < node < place.nodes:
        link.close()
        return
    if node in links:
        links.pop(node).close()
    links[node] = link


def _join(place: Place, deadline: float) -> Peers:
    """Be another pod: come to the first one as often as it takes, until it says that all are there."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _not_all_came(f"the first pod, {place.address}, did not start the run")
        try:
            connection = socket.create_connection((place.address, place.port), timeout=min(left, 10.0))
        except OSError:  # its name does not resolve yet, it does not listen yet, or it is just going
            time.sleep(_RETRY_SECONDS)
            continue
        address = connection.getpeername()[0]
        link = Link(connection)
        link.send({"run": place.run, "node": place.node})
        words = link.receive(left) or {}
        if isinstance(words.get("port"), int):
            return Peers([link], address, words["port"])
        link.close()
        time.sleep(_RETRY_SECONDS)


def _listening(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _free_port() -> int:
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _not_all_came(what: str) -> TrainerError:
    return TrainerError(
        ExitCode.INTERRUPTED,
        f"{what} within spec.failurePolicy.stallTimeoutSeconds",
        "look at the other pods of the run; it is tried again",
    )
