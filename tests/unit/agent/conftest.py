"""What runs a story of one pod whose engine and files are in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from unit.agent.fakes import Pod

Story = Callable[[Pod], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[..., None]:
    """Return what runs a story of one pod."""

    def run(story: Story, **settings: Any) -> None:
        asyncio.run(asyncio.wait_for(story(Pod(tmp_path, **settings)), 30))

    return run
