"""The desired file: what is unknown is never taken for what is not wanted."""

import hashlib
from pathlib import Path

import pytest

from lora_agent.desired import DesiredFile
from lora_api.delivery import Desired
from unit.agent.fakes import wish

GOOD = Desired(adapters=[wish("bot")]).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "desired.json"


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_file_that_says_nothing_means_unknown(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    view = DesiredFile(file).read()
    assert (view.desired, view.digest, view.trouble) == (None, "", "")


def test_a_text_is_named_by_its_digest(file: Path) -> None:
    file.write_text(GOOD)
    view = DesiredFile(file).read()
    assert view.desired is not None
    assert [each.name for each in view.desired.adapters] == ["bot"]
    assert view.digest == hashlib.sha256(GOOD.encode()).hexdigest()


def test_an_empty_list_is_known(file: Path) -> None:
    file.write_text("{}")
    view = DesiredFile(file).read()
    assert view.desired == Desired()


@pytest.mark.parametrize("gone", ["removed", "empty"])
def test_what_was_known_stays_known(file: Path, gone: str) -> None:
    reader = DesiredFile(file)
    file.write_text(GOOD)
    before = reader.read()
    file.unlink() if gone == "removed" else file.write_text("")
    assert reader.read() is before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "JSON"),
        ('{"adapters": [{"name": "bot"}]}', "adapters.0.servedName"),
        (Desired(adapters=[wish("bot"), wish("bot")]).encode(), "bot is there twice"),
        (" " * 2**20 + "{}", "longer than"),
        ("\x00\xff", "JSON"),
    ],
)
def test_a_broken_text_keeps_the_last_good_one_and_is_reported(file: Path, text: str, says: str) -> None:
    reader = DesiredFile(file)
    file.write_text(GOOD)
    before = reader.read()
    file.write_text(text)
    view = reader.read()
    assert (view.desired, view.digest) == (before.desired, before.digest)
    assert says in view.trouble
    assert "\n" not in view.trouble
    file.write_text(GOOD + " ")
    assert reader.read().trouble == ""


def test_the_kubelets_swap_of_a_link_is_seen(tmp_path: Path) -> None:
    for name, text in (("one", GOOD), ("two", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "desired.json").write_text(text)
    data = tmp_path / "..data"
    data.symlink_to("one")
    (tmp_path / "desired.json").symlink_to("..data/desired.json")
    reader = DesiredFile(tmp_path / "desired.json")
    first = reader.read()
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(data)
    assert first.desired != Desired()
    assert reader.read().desired == Desired()
