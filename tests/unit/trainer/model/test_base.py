"""What config and headers say about a base model, and when it counts as another one."""

import pytest

from lora_trainer.model.base import BaseModel
from lora_trainer.storage.location import Location, RemoteFile

FILES = (RemoteFile("config.json", 10, "a"), RemoteFile("model.safetensors", 20, "b"))


def base(config=None, shapes=None, files=FILES, commit=None):
    return BaseModel(Location("s3://models/base", "spec.baseModel.uri"), commit, files, config or {}, shapes or {})


def test_the_revision_is_that_of_the_listing_and_changes_with_every_file():
    revision = base().revision
    assert revision.startswith("sha256:")
    assert base(files=(FILES[0], FILES[1]._replace(etag="c"))).revision != revision
    assert base(files=(FILES[0], FILES[1]._replace(size=21))).revision != revision
    assert base(files=FILES[:1]).revision != revision


def test_the_revision_of_a_hub_model_is_its_commit_and_its_files_are_read_there():
    found = base(commit="c0ffee")
    assert found.revision == "c0ffee"
    assert (found.location.uri, found.source.uri) == ("s3://models/base", "s3://models/base@c0ffee")
    assert base().source == base().location


def test_parameters_are_counted_from_the_shapes():
    assert base(shapes={"a.weight": (3, 4), "a.bias": (3,), "scale": ()}).parameters == 16


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({}, 2**20),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"is_encoder_decoder": True, "n_positions": 512, "relative_attention_num_buckets": 32}, 2**20),
    ],
)
def test_the_longest_sequence_is_what_the_family_can_place(config, positions):
    assert base(config).max_positions == positions


@pytest.mark.parametrize(("value", "ids"), [(None, ()), (2, (2,)), ([2, 7], (2, 7))])
def test_end_tokens_are_one_or_several(value, ids):
    assert base({"eos_token_id": value}).end_ids == ids
