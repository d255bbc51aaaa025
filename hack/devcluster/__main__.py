"""Entry point: `python3 hack/devcluster up` runs the folder, before any virtual environment exists."""

import sys

from devcluster.cli import main

sys.exit(main(sys.argv[1:]))
