"""What `down` takes away, and what it must not touch."""

from pathlib import Path

from devcluster.leftovers import mounts_below
from devcluster.network import without_cluster_rules

MOUNTINFO = """\
20 1 254:0 / / rw - ext4 /dev/vda rw
30 20 0:30 / /state/rootfs rw - overlay overlay rw
31 30 0:31 / /state/rootfs/with\\040space rw - tmpfs tmpfs rw
32 20 0:32 / /state-of-another rw - tmpfs tmpfs rw
"""
SAVED = """\
*nat
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A POSTROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -s 10.244.0.0/24 -m comment --comment lora-devcluster -j MASQUERADE
-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE
-A KUBE-SERVICES -d 10.96.0.1/32 -j ACCEPT
COMMIT
"""


def test_inner_mounts_come_first_and_neighbours_are_left_alone() -> None:
    assert mounts_below(Path("/state"), MOUNTINFO) == ["/state/rootfs/with space", "/state/rootfs"]


def test_only_the_cluster_s_rules_go() -> None:
    kept = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE\nCOMMIT\n"
    assert without_cluster_rules(SAVED) == kept
