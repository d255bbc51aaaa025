"""How often the operator looks: as often as something happened, and not once for what it wrote itself."""

from support.objects import Objects, condition
from support.operator_process import Operator
from support.samples import lorajob
from support.wait import wait_for

LIFE = 14
"""Passes for one job: its creation; each of two Jobs created, its pod started and ended, the Job complete (8); the
adapter's own pass and the job's after it (2); and three for events that did not come together in time."""


def live(cluster: Objects, name: str) -> None:
    """Play the whole life of a job, until its adapter has a status."""
    cluster.create(lorajob(name))
    cluster.run_to_success(name)
    wait_for("the adapter's status", lambda: condition(cluster.wait("LoRAAdapter", name), "Ready"))


def mark(cluster: Objects, operator: Operator, value: str) -> float:
    """Change a job so that it gets a pass, and return the number of passes after that one.

    Whatever was due before has had its pass by then: the queue keeps the order.
    """
    before = operator.passes()
    cluster.patch("LoRAJob", "first", {"metadata": {"annotations": {"test/mark": value}}})
    wait_for("the pass", lambda: operator.passes() > before)
    return operator.passes()


def test_a_whole_life_takes_few_passes(cluster: Objects, operator: Operator) -> None:
    for name in ("first", "second", "third"):
        live(cluster, name)
    assert mark(cluster, operator, "end") <= 3 * LIFE


def test_what_changes_nothing_costs_no_pass(cluster: Objects, operator: Operator) -> None:
    live(cluster, "first")
    pod = cluster.list("Pod")[0]["metadata"]["name"]
    before = mark(cluster, operator, "begin")
    for number in range(20):
        cluster.set_status("LoRAJob", "first", {"progress": {"step": number}})
        cluster.set_status("LoRAAdapter", "first", {"observedGeneration": 1 + number})
        cluster.set_status("Pod", pod, {"hostIP": f"10.0.0.{number}", "hostIPs": [{"ip": f"10.0.0.{number}"}]})
    assert mark(cluster, operator, "end") <= before + 2
