"""The store: a folder is complete and verified, or it is not there."""

import json
from pathlib import Path

import pytest

from lora_agent.memory import Loaded, Memory, MemoryFile
from lora_agent.store import StoppedError, Store
from unit.agent.fakes import digest_for, write_adapter

DIGEST = digest_for(b"one")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(tmp_path)
    opened.open()
    return opened


def publish(store: Store, content: bytes = b"one") -> Path:
    folder = store.new_folder()
    store.publish(folder, write_adapter(folder, content))
    return store.path_of(digest_for(content))


def test_what_is_published_is_found_at_the_next_start(store: Store) -> None:
    folder = publish(store)
    assert folder == store.folder / DIGEST.replace(":", "-")
    assert list(store.open()) == [DIGEST]
    assert (folder / "adapter_model.safetensors").read_bytes() == b"one"


def test_other_users_may_read_the_files(store: Store) -> None:
    folder = publish(store)
    assert oct(folder.stat().st_mode & 0o777) == "0o755"
    assert oct(store.folder.stat().st_mode & 0o777) == "0o755"


def test_the_same_content_twice_is_one_folder(store: Store) -> None:
    publish(store)
    publish(store)
    assert sorted(each.name for each in store.folder.iterdir()) == [
        store.path_of(DIGEST).name,
        f"{store.path_of(DIGEST).name}.json",
    ]


def damage_size(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"onetwo")


def damage_content(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"two")


def lose_file(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def add_file(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"")


def link_file(folder: Path) -> None:
    (folder / "elsewhere").write_bytes(b"one")
    (folder / "elsewhere").rename(folder.parent / "elsewhere")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to(folder.parent / "elsewhere")


def lose_record(folder: Path) -> None:
    folder.with_name(f"{folder.name}.json").unlink()


def lie_in_record(folder: Path) -> None:
    path = folder.with_name(f"{folder.name}.json")
    record = json.loads(path.read_text())
    record["files"] = record["files"][:1]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage", [damage_size, damage_content, lose_file, add_file, link_file, lose_record, lie_in_record]
)
def test_a_damaged_folder_is_removed_at_start_and_others_stay(store: Store, damage: object) -> None:
    folder, other = publish(store), publish(store, b"other")
    damage(folder)  # type: ignore[operator]
    assert list(store.open()) == [digest_for(b"other")]
    assert not folder.exists()
    assert not folder.with_name(f"{folder.name}.json").exists()
    assert other.exists()


def test_what_a_killed_agent_left_is_removed_at_start(store: Store) -> None:
    half = store.new_folder()
    (half / "adapter_model.safetensors").write_bytes(b"on")
    (store.folder / ".tmp-file").write_text("{")
    (store.folder / f"{store.path_of(DIGEST).name}.json").write_text("{}")  # died between record and rename
    assert store.open() == {}
    assert list(store.folder.iterdir()) == []


def test_a_removed_folder_is_gone_with_its_record(store: Store) -> None:
    publish(store)
    store.remove(DIGEST)
    assert list(store.folder.iterdir()) == []
    store.remove(DIGEST)


def test_the_check_of_large_files_ends_when_the_agent_does(store: Store) -> None:
    publish(store)
    with pytest.raises(StoppedError):
        store.open(lambda: True)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("{store}/sha256-" + 64 * "0", True),
        ("{store}/sha256-" + 64 * "0" + "/", True),
        ("{store}/sha256-" + 63 * "0", False),
        ("/elsewhere/sha256-" + 64 * "0", False),
        ("{store}/../sha256-" + 64 * "0", False),
        ("", False),
    ],
)
def test_only_paths_of_the_store_stand_for_a_digest(store: Store, path: str, known: bool) -> None:
    found = store.digest_at(path.format(store=store.folder))
    assert found == (f"sha256:{64 * '0'}" if known else None)


def test_memory_is_kept_whole_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    memory = Memory(loaded={"bot": Loaded(digest=DIGEST, adapter="bot")}, waited=["bot"], started=True)
    MemoryFile(tmp_path).save(memory)
    assert MemoryFile(tmp_path).load() == memory
    (tmp_path / "agent.json").write_text('{"loaded": ')
    assert MemoryFile(tmp_path).load() == Memory()
