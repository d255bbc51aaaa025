"""A server that answers like the hub: one commit, headers only, and a token that goes nowhere else."""

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session, hf_raise_for_status

from lora_api.exit_codes import ExitCode
from lora_api.sources import Storage as StorageSpec
from lora_api.training import Task
from lora_trainer.errors import TrainerError
from lora_trainer.model.base import describe_base
from lora_trainer.model.fetch import download_base, download_small_files
from lora_trainer.storage.access import Storage
from lora_trainer.storage.http import Http
from lora_trainer.storage.hub import Hub
from lora_trainer.storage.location import Location
from lora_trainer.workspace import Workspace
from support.hub_server import HubRepository, hub_server

MODEL = Location("hf://owner/tiny", "spec.baseModel.uri")
ROWS = Location("hf://owner/rows", "spec.dataset.train.uri")


@pytest.fixture
def hub(tiny_base, monkeypatch):
    """A hub with the tiny model, also gated and private, and a data set."""
    models = {"owner/tiny": {}, "owner/gated": {"gated": True}, "owner/private": {"private": True}}
    models = {name: HubRepository.of(tiny_base, **options) for name, options in models.items()}
    models["owner/tiny"].files |= {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "onnx/model.onnx": b"x"}
    rows = HubRepository({"README.md": b"#", "data/a.parquet": b"PAR1" * 100, "data/b.jsonl": b"{}\n"})
    with hub_server(models=models, datasets={"owner/rows": rows}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def storage():
    return Storage(StorageSpec())


def patient(server, token=None):
    """Return a hub whose waits between attempts take no time."""
    return Hub(server.url, token, Http(sleep=lambda _: None))


def test_a_model_is_described_from_its_headers_alone(hub, storage, tiny_base):
    base = describe_base(storage, MODEL, "main", Task.CAUSAL_LM)
    assert base.revision == hub.repositories["models/owner/tiny"].commit
    assert base.config["architectures"] == ["LlamaForCausalLM"]
    assert base.parameters > 10_000
    assert "model.layers.0.self_attn.q_proj" in base.layers
    assert {file.path for file in base.files} >= {"config.json", "tokenizer.json", "model.safetensors"}
    assert not {file.path for file in base.files} & {"pytorch_model.bin", "modeling.py", "onnx/model.onnx"}
    assert not [path for path in hub.downloaded() if path.endswith("model.safetensors")]


def test_the_whole_model_is_downloaded_at_the_commit_that_was_found(hub, storage, tiny_base, tmp_path):
    base = describe_base(storage, MODEL, "refs/pr/1", Task.CAUSAL_LM)
    hub.requests.clear()
    workspace = Workspace(tmp_path, "run")
    folder = download_base(storage, base, workspace)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (tiny_base / name).read_bytes()
    assert not (folder / "modeling.py").exists()
    assert all(base.revision in path for kind, path, _ in hub.requests if kind == "hub" and "/resolve/" in path)
    small = download_small_files(storage, base, workspace)
    assert (small / "config.json").exists()
    assert not (small / "model.safetensors").exists()


def test_a_data_set_is_listed_and_read_below_a_path(hub, storage, tmp_path):
    assert [file.path for file in storage.list_files(ROWS)] == ["README.md", "data/a.parquet", "data/b.jsonl"]
    listed = storage.list_files(ROWS / "data")
    assert [(file.path, file.size) for file in listed] == [("a.parquet", 400), ("b.jsonl", 3)]
    storage.download_all(ROWS / "data", listed, tmp_path)
    assert (tmp_path / "a.parquet").read_bytes() == b"PAR1" * 100
    assert storage.read(ROWS / "data/a.parquet", 4, 6) == b"PAR1PA"
    assert storage.list_files(ROWS / "nothing") == []
    assert storage.read_if_there(ROWS / "data/none.jsonl") is None


@pytest.mark.parametrize(
    ("name", "token", "revision", "code", "words"),
    [
        ("gated", "", "main", ExitCode.NO_PERMISSION, "is gated, and no token is given; accept its terms"),
        ("gated", "hf_stranger", "main", ExitCode.NO_PERMISSION, "the account of the token has no access"),
        ("private", "", "main", ExitCode.INPUT_NOT_FOUND, "for a private repository give a token"),
        ("private", "hf_stranger", "main", ExitCode.INPUT_NOT_FOUND, "no such repository, or it is private"),
        ("none", "hf_member", "main", ExitCode.INPUT_NOT_FOUND, "correct spec.baseModel.uri"),
        ("tiny", "hf_wrong", "main", ExitCode.NO_PERMISSION, "the hub does not know the token"),
        ("tiny", "", "v9", ExitCode.INPUT_NOT_FOUND, "no such revision; correct spec.baseModel.revision"),
    ],
)
def test_what_the_hub_refuses_has_an_exit_code_and_a_fix(hub, storage, monkeypatch, name, token, revision, code, words):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TrainerError) as refused:
        describe_base(storage, Location(f"hf://owner/{name}", MODEL.field), revision, Task.CAUSAL_LM)
    assert refused.value.exit_code == code
    assert words in str(refused.value)
    assert f"spec.baseModel.uri: hf://owner/{name}" in refused.value.message
    assert "hf_" not in str(refused.value)


def test_a_token_opens_a_gated_model_and_goes_to_the_hub_only(hub, storage, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_member\n")
    base = describe_base(storage, Location("hf://owner/gated", MODEL.field), "main", Task.CAUSAL_LM)
    download_base(storage, base, Workspace(tmp_path, "run"))
    assert {headers["Authorization"] for kind, _, headers in hub.requests if kind == "hub"} == {"Bearer hf_member"}
    assert any(kind == "files" for kind, *_ in hub.requests)
    assert not any("Authorization" in headers for kind, _, headers in hub.requests if kind == "files")


def test_trouble_of_the_server_is_tried_again(hub):
    hub.failures += [503, 429]
    assert patient(hub).commit_of(MODEL, "main").startswith("c0ffee")


def test_a_server_that_stays_down_is_service_unavailable(hub):
    hub.failures += [503] * 10
    with pytest.raises(TrainerError, match="the server answered 503") as down:
        patient(hub).commit_of(MODEL, "main")
    assert down.value.exit_code == ExitCode.SERVICE_UNAVAILABLE
    assert len(hub.requests) == 3


def test_a_server_that_is_not_there_is_service_unavailable(hub):
    with pytest.raises(TrainerError, match="did not answer") as gone:
        Hub("http://127.0.0.1:1", None, Http(sleep=lambda _: None)).commit_of(MODEL, "main")
    assert gone.value.exit_code == ExitCode.SERVICE_UNAVAILABLE


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, tmp_path):
    client, file = patient(hub), ROWS / "data/b.jsonl"
    content = bytes(range(256)) * 10_000
    hub.repositories["datasets/owner/rows"].files["data/b.jsonl"] = content
    client.commit_of(ROWS, "main")
    hub.failures.append(0)
    client.download(file, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content
    *_, (_, _, again) = hub.requests
    assert again["Range"] == f"bytes={len(content) // 2}-"


def test_a_server_that_is_no_hub_is_an_invalid_request(hub):
    hub.failures.append(200)
    with pytest.raises(TrainerError, match="does not answer like a hub") as refused:
        patient(hub).commit_of(MODEL, "main")
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST


def test_the_hubs_own_client_finds_the_same_in_the_server_of_these_tests(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    api = huggingface_hub.HfApi(hub.url, token=False)
    commit = api.model_info("owner/tiny", revision="main").sha
    assert commit == patient(hub).commit_of(MODEL, "main")
    listed = api.list_repo_tree("owner/tiny", recursive=True, revision=commit)
    theirs = sorted((file.path, file.size) for file in listed if hasattr(file, "size"))
    assert theirs == [(file.path, file.size) for file in patient(hub).list_files(MODEL)]
    with pytest.raises(RevisionNotFoundError):
        api.model_info("owner/tiny", revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("owner/none", revision="main")
    with pytest.raises(GatedRepoError):
        hf_raise_for_status(get_session().get(f"{hub.url}/owner/gated/resolve/{commit}/config.json"))
