"""The option that refreshes the golden files."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-golden`: `pytest tests/unit/operator --update-golden` writes tests/golden anew."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Return whether the golden files are to be written."""
    return bool(request.config.getoption("--update-golden", default=False))
