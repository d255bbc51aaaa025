"""Launchers of several pods: they find each other in any order, and each learns that another has gone."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer import meeting
from lora_trainer.errors import TrainerError
from lora_trainer.meeting import Link, Peers, Place, meet
from support.s3server import free_port
from support.wait import wait_for

SECONDS = 20
SOON = threading.Event()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meeting, "_RETRY_SECONDS", 0.05)


@pytest.fixture
def place():
    return Place(node=0, nodes=3, address="127.0.0.1", port=free_port(), run="team-a/bot/u-1/1")


@pytest.fixture
def together(place):
    """Let the pods of a run meet, in the order in which they come, and return them by their number."""
    met = []

    def run(order=(0, 1, 2)):
        with ThreadPoolExecutor(len(order)) as pool:
            coming = {}
            for node in order:
                coming[node] = pool.submit(meet, replace(place, node=node), SECONDS)
                SOON.wait(0.1)
            found = {node: each.result(SECONDS) for node, each in coming.items()}
        met.extend(found.values())
        return found

    yield run
    for each in met:
        each.close()


def test_one_pod_alone_waits_for_nobody_and_loses_nobody(place):
    peers = meet(replace(place, nodes=1), SECONDS)
    peers.say_done()
    assert (peers.several, peers.lost, peers.wait_done(), peers.wait_lost(SECONDS)) == (False, False, True, False)
    assert peers.port > 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_pods_meet_in_whatever_order_they_come(together, order):
    peers = together(order)
    assert {each.address for each in peers.values()} == {"127.0.0.1"}
    assert len({each.port for each in peers.values()}) == 1
    assert not any(each.lost for each in peers.values())


def test_a_name_that_does_not_resolve_yet_is_waited_for(together, place, monkeypatch):
    asked, create = [], socket.create_connection

    def resolve_late(address, **options):
        asked.append(address)
        if len(asked) < 4:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return create(address, **options)

    monkeypatch.setattr(socket, "create_connection", resolve_late)
    assert together()[1].port
    assert len(asked) > 4


def test_a_pod_that_is_started_anew_before_all_are_there_takes_its_old_place(together, place):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(meet, replace(place, nodes=2), SECONDS)

        def hello():
            with contextlib.suppress(OSError):
                return socket.create_connection((place.address, place.port))

        gone = Link(wait_for("the first pod listens", hello))
        gone.send({"run": "another run", "node": 1})
        assert gone.receive(SECONDS) is None, "a pod of another run is sent away"
        gone = Link(hello())
        gone.close()
        silent = Link(hello())
        silent.send({"run": place.run, "node": 7})
        assert silent.receive(SECONDS) is None, "a pod that there cannot be is sent away"
        second = meet(replace(place, node=1, nodes=2), SECONDS)
        peers = first.result(SECONDS)
    assert second.port == peers.port
    assert not peers.lost
    for each in (second, peers):
        each.close()


@pytest.mark.parametrize("node", [0, 1])
def test_pods_that_do_not_come_end_the_wait_as_a_disruption(place, node):
    with pytest.raises(TrainerError, match=r"within spec\.failurePolicy\.stallTimeoutSeconds") as caught:
        meet(replace(place, node=node), 0.3)
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert ("1 of 3 pods came" in caught.value.message) is (node == 0)


def test_a_pod_that_goes_is_missed_by_the_first_one_which_then_goes_itself(together):
    peers = together()
    peers[2].close()
    assert peers[0].wait_lost(SECONDS)
    assert not peers[1].lost
    peers[0].close()
    assert peers[1].wait_lost(SECONDS)


def test_no_pod_ends_well_before_the_first_one_has(together):
    peers = together()
    peers[1].say_done()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(peers[1].wait_done)
        SOON.wait(0.3)
        assert not waiting.done()
        peers[0].say_done()
        peers[0].close()
        assert waiting.result(SECONDS) is True
        peers[2].say_done()
        assert peers[2].wait_done()


def test_a_first_pod_that_goes_before_it_is_done_keeps_the_others_from_ending_well(together):
    peers = together()
    peers[1].say_done()
    peers[0].close()
    assert peers[1].wait_done() is False


def test_a_pod_whose_node_has_no_power_is_missed_after_a_silence():
    ours, theirs = socket.socketpair()
    peers = Peers([Link(ours)], "127.0.0.1", 1, silence_seconds=0.3)
    assert peers.wait_lost(SECONDS)
    peers.close()
    theirs.close()


def test_beats_keep_a_pod_from_being_missed(monkeypatch):
    monkeypatch.setattr(meeting, "_BEAT_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    pods = [Peers([Link(each)], "127.0.0.1", 1, silence_seconds=0.5) for each in (ours, theirs)]
    assert not pods[0].wait_lost(1.0)
    for each in pods:
        each.close()


@pytest.mark.parametrize("words", [b"\n", b"{}x\n", b"[1]\n", b"\xff\n", b"x" * 5000])
def test_what_is_no_word_of_a_launcher_is_as_if_it_had_hung_up(words):
    ours, theirs = socket.socketpair()
    theirs.sendall(words)
    assert Link(ours).receive(SECONDS) is None
    ours.close()
    theirs.close()
