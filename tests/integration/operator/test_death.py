"""A process that cannot watch must not look alive. Last, because it takes the CRDs away for a moment."""

import os

import pytest

from support.apiserver import ApiServer, install_crds
from support.operator_process import Operator
from support.wait import wait_for


@pytest.mark.skipif("LORA_TEST_KUBECONFIG" in os.environ, reason="would remove every LoRAAdapter of your cluster")
def test_the_process_ends_when_a_watch_dies(server: ApiServer, operator: Operator) -> None:
    wait_for("the operator works", operator.leads)
    server.run_kubectl("delete", "crd", "loraadapters.lora-operator.io")
    try:
        assert operator.process.wait(timeout=60) == 1
        operator.restart()
        assert operator.process.wait(timeout=60) == 1, "without the CRDs it does not start"
        assert "are the CRDs installed?" in operator.log.read_text()
    finally:
        install_crds(server)
