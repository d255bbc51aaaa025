"""The local cluster's code is no package of the distribution: it runs from its folder, before anything is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "hack/devcluster"))
