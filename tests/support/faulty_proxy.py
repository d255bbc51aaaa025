"""A TCP proxy that fails on demand: between an operator and an API server, below TLS, as a network does."""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

_CHUNK = 65_536


class FaultyProxy:
    """Forwards connections to a port, of this host unless another one is named, until it is told to do worse."""

    @classmethod
    def to(cls, url: str) -> "FaultyProxy":
        """Return one that forwards to the host and port of a URL."""
        parts = urlsplit(url)
        return cls(parts.port or 80, parts.hostname or "127.0.0.1")

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target_host, self._target_port = target_host, target_port
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection. New ones are made at once."""
        with self._lock:
            broken, self._sockets = self._sockets, set()
        for each in broken:
            _close(each)

    def block(self) -> None:
        """Let nothing through, and say nothing: connections stay open."""
        self._open.clear()

    def unblock(self) -> None:
        """Let everything through again, also what was held back."""
        self._open.set()

    def refuse(self) -> None:
        """Break every connection, and new ones as soon as they are made."""
        self._refusing = True
        self.cut()

    def allow(self) -> None:
        """Accept connections again."""
        self._refusing = False

    def close(self) -> None:
        """End."""
        self.unblock()
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        if self._refusing:
            _close(near)
            return
        try:
            far = socket.create_connection((self._target_host, self._target_port), timeout=5)
        except OSError:
            _close(near)
            return
        far.settimeout(None)
        with self._lock:
            self._sockets |= {near, far}
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                sink.sendall(data)
        for each in (source, sink):
            _close(each)
        with self._lock:
            self._sockets -= {source, sink}


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
    each.close()
