"""The samples at a real API server: what it takes, and what `kubectl apply` says of them."""

from pathlib import Path

import pytest
import yaml

from support.objects import Objects

SAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "samples"


@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_takes_every_sample_without_a_warning(cluster: Objects, path: Path) -> None:
    done = cluster.server.run_kubectl("apply", "-n", cluster.namespace, "--dry-run=server", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count("created (server dry run)") == len(list(yaml.safe_load_all(path.read_text())))
