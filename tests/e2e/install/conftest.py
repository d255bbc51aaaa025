"""The operator's release in the cluster, which these tests change; afterwards it is as `make deploy` left it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.install.release import Release, previous_chart
from support.helm import Helm, find_helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm; it is built the first time."""
    return Helm(find_helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def previous(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the chart in an earlier version."""
    return previous_chart(helm, tmp_path_factory.mktemp("charts"))


@pytest.fixture(scope="module")
def release(helm: Helm) -> Iterator[Release]:
    """Return the release that serves the whole cluster. Each test installs what it needs."""
    found = Release(helm)
    yield found
    try:
        found.uninstall()
    finally:
        found.apply()
