"""A taken port is reported with the name of the process that holds it."""

import os
import socket

import pytest

from devcluster.ports import Listener, check_free, conflicts, parse_row
from devcluster.shell import DevclusterError


def test_message_names_port_component_and_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            DevclusterError, match=rf"port {port} for etcd is taken by .+ \(pid {os.getpid()}\): stop it first"
        ):
            check_free("etcd", "127.0.0.1", port)


@pytest.mark.parametrize(
    ("listening", "wanted", "expected"),
    [
        ("127.0.0.53", "10.244.0.1", False),  # a resolver of the host does not disturb the cluster's DNS
        ("0.0.0.0", "10.244.0.1", True),
        ("::", "10.244.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_addresses_conflict_as_in_the_kernel(listening: str, wanted: str, expected: bool) -> None:
    assert conflicts(Listener(listening, 53, "1"), wanted, 53) is expected
    assert not conflicts(Listener(listening, 53, "1"), wanted, 54)


def test_kernel_table_is_read() -> None:
    row = "   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0"
    assert parse_row(row) == Listener("127.0.0.1", 6443, "4711")
