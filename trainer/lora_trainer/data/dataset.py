"""The data of a job: from the sets that it names to what is trained, validated and measured on.

The one entry of this package. Preflight and training call it alike, so both see the same rows in the same order; what
one of them has tokenised the other finds in the store.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_trainer.context import OUTPUT_FIELD, Context
from lora_trainer.data.assembly import Data, ReadSet, assemble
from lora_trainer.data.cache import PreparedStore, key_of
from lora_trainer.data.files import digest_of_files, fetch_files
from lora_trainer.data.prepare import prepare_set
from lora_trainer.data.source import Source, sources_of
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.logs import log
from lora_trainer.storage.location import Location

_NO_TOKENIZER_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json")


@dataclass(frozen=True)
class TokenizerFacts:
    """What data need of a base model."""

    tokenizer: Any
    """Tokenizer of transformers."""
    folder: Path
    """The files that it was loaded from."""
    end_ids: tuple[int, ...]
    """Tokens that end a sequence, as the config of the model has them."""
    max_positions: int
    """Longest sequence in tokens that the model can place."""

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all that decides which tokens a text becomes, and which of them are ends."""
        files = {file.name: file for file in self.folder.iterdir() if file.is_file()}
        contents = {
            name: hashlib.sha256(files[name].read_bytes()).hexdigest()
            for name in sorted(files)
            if name not in _NO_TOKENIZER_FILES
        }
        template = self.tokenizer.chat_template
        decisive = json.dumps([contents, template, sorted(self.end_ids), type(self.tokenizer).__name__])
        return hashlib.sha256(decisive.encode()).hexdigest()


def load_data(context: Context, facts: TokenizerFacts, versions: Mapping[str, str]) -> Data:
    """Read, check, tokenise, divide and cut the data of a job; `versions` are those of the libraries that do it.

    Raises a `TrainerError` (64, 65, 66, 69 or 77) with the field and the fix of whatever is wrong.
    """
    spec = context.job.spec
    sources = sources_of(spec)
    sets = _Sets(context, ChatTokenizer(facts.tokenizer, facts.end_ids), facts.digest(), versions)
    return assemble(
        spec,
        facts.max_positions,
        [sets.read(source) for source in sources.train],
        validation=sets.read(sources.validation) if sources.validation else None,
        retention=sets.read(sources.retention) if sources.retention else None,
    )


class _Sets:
    """Reads the sets of one job, each from the store if it was prepared before."""

    def __init__(
        self, context: Context, tokenizer: ChatTokenizer, tokenizer_digest: str, versions: Mapping[str, str]
    ) -> None:
        self._context, self._tokenizer = context, tokenizer
        self._tokenizer_digest, self._versions = tokenizer_digest, versions
        self._scratch = context.workspace.run_folder("data")
        self._store = PreparedStore(context.storage, Location(context.layout.prepared, OUTPUT_FIELD), self._scratch)

    def read(self, source: Source) -> ReadSet:
        folder = self._scratch / "files"
        folder.mkdir(exist_ok=True)
        try:
            found = self._read(source, folder)
        finally:  # the files are needed no longer, and the scratch volume is
            shutil.rmtree(folder, ignore_errors=True)
        facts = found.prepared.facts
        rows = len(found.prepared.examples)
        log("data read", field=source.field, rows=rows, format=facts.format.value, detected=facts.detected_by)
        return found

    def _read(self, source: Source, folder: Path) -> ReadSet:
        context = self._context
        files = fetch_files(context.storage, source.location, folder)
        digest = digest_of_files(files)
        key = key_of(digest, source, context.job.spec, self._tokenizer_digest, self._versions)
        prepared = self._store.load(key)
        if prepared is None:
            prepared = prepare_set(source, files, context.job.spec, self._tokenizer, context.progress.beat)
            self._store.save(key, prepared)
        return ReadSet(source, prepared, digest)
