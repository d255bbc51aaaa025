"""The documentation: every link leads somewhere, and every manifest in it is one that the API takes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from generate.fields import fields_page
from generate.install import install_objects
from lora_api.crd import all_crds
from lora_api.loraadapter import LoRAAdapterSpec
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_api.training import Quantization
from lora_trainer.model.estimate import estimate_memory
from support.specs import SMALLEST

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "charts").rglob("*.md"),
        *(ROOT / "manifests").rglob("*.md"),
    ]
)
SPECS: dict[str, type[BaseModel]] = {"LoRAJob": LoRAJobSpec, "LoRAAdapter": LoRAAdapterSpec}
CUT = re.compile(r"(sha256[:-])([0-9a-f]*)…")
"""A digest that a page shows the beginning of."""

Object = dict[str, Any]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the names by which headings of a page can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", each).lower()).replace(" ", "-")
        for each in headings
    }


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
    return [each for each in found if not each.startswith(("http://", "https://", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def blocks(page: Path) -> list[str]:
    """Return the YAML of a page, with digests that are cut short filled up."""
    found = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [CUT.sub(lambda match: match[1] + match[2].ljust(64, "0"), each) for each in found]


def documents(page: Path) -> Iterator[Object]:
    for block in blocks(page):
        yield from (each for each in yaml.safe_load_all(block) if isinstance(each, dict))


MANIFESTS = [(page, each) for page in PAGES for each in documents(page) if each.get("kind") in SPECS]
FRAGMENTS = [
    (page, each["spec"] if set(each) == {"spec"} else each)
    for page in PAGES
    for each in documents(page)
    if set(each) <= set(LoRAJobSpec.model_json_schema()["properties"]) or set(each) == {"spec"}
]
"""Parts of a LoRAJob's spec."""


def test_there_are_manifests_and_fragments_to_check() -> None:
    assert {each["kind"] for _, each in MANIFESTS} == set(SPECS)
    assert len(FRAGMENTS) > 5


@pytest.mark.parametrize(
    ("page", "document"), MANIFESTS, ids=lambda each: named(each) if isinstance(each, Path) else ""
)
def test_every_manifest_of_our_kinds_is_valid(page: Path, document: Object) -> None:
    assert document["apiVersion"] == "lora-operator.io/v1alpha1"
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    SPECS[document["kind"]].model_validate(document["spec"])


@pytest.mark.parametrize(
    ("page", "fragment"), FRAGMENTS, ids=lambda each: named(each) if isinstance(each, Path) else ""
)
def test_every_part_of_a_job_fits_into_one(page: Path, fragment: Object) -> None:
    if "template" not in fragment:  # that of a Deployment
        LoRAJobSpec.model_validate(SMALLEST | fragment)


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    folders = {index.parent / "decisions"}
    missing = [each for each in (ROOT / "docs").rglob("*.md") if each not in linked and each.parent not in folders]
    assert missing == [index]


@pytest.mark.parametrize("crd", all_crds().values(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_the_reference_has_every_field_of_the_schema(crd: Object) -> None:
    page = fields_page(crd)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for name in ("spec", "status"):
        for path in paths(name, schema[name]):
            assert f"| `{path}` |" in page
    for message in rules(schema):
        assert message in page, "the words that the API server refuses a spec with"
    row = r"\| `spec\.[\w.\[\]]+` \| [^|]+ \| (yes)? \| [^|]*(\\\|[^|]*)* \|"
    assert re.findall(r"^\| `spec\..*", page, flags=re.MULTILINE)
    assert [
        each for each in re.findall(r"^\| `spec\..*", page, flags=re.MULTILINE) if not re.fullmatch(row, each)
    ] == []


def paths(path: str, schema: Object) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from paths(f"{path}.{name}" + ("[]" if "items" in field else ""), field.get("items", field))


def rules(schema: Object) -> Iterator[str]:
    for key, value in schema.items():
        if key == "x-kubernetes-validations":
            yield from (each["message"] for each in value)
        elif isinstance(value, dict):
            yield from rules(value)


def test_the_application_of_the_page_is_the_one_of_the_file() -> None:
    (shown,) = (each for each in documents(ROOT / "docs" / "gitops.md") if each.get("kind") == "Application")
    assert shown == yaml.safe_load((ROOT / "manifests" / "argocd" / "application.yaml").read_text())


def test_contributing_names_files_that_there_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named_paths = re.findall(r"`((?:api|operator|trainer|agent|cli|hack|tests|docs)/[\w./*]+)`", text)
    assert len(named_paths) > 20
    assert [each for each in named_paths if not list(ROOT.glob(each))] == []


def test_the_commands_of_make_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        for line in re.findall(r"^[$#] make ([a-z0-9 -]+)", page.read_text(), flags=re.MULTILINE):
            assert set(line.split()) <= targets, f"{named(page)}: make {line}"


LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
BASES = {
    "Llama 3.2 1B": (1_235_814_400, LLAMA | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True}),
    "Llama 3.1 8B": (8_030_261_248, LLAMA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}),
    "Qwen3 8B": (8_190_735_360, LLAMA | {"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288,
                 "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                 "vocab_size": 151936}),
    "Llama 3.1 70B": (70_553_706_496, LLAMA | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                      "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128}),
}  # fmt: skip
"""Weights and config of the bases in docs/memory.md."""


@pytest.mark.parametrize("base", BASES)
def test_the_table_of_memory_is_what_the_program_estimates(base: str) -> None:
    columns = [(None, False), (None, True), (Quantization(bits=8), True), (Quantization(), True)]
    numbers = [f"{_gibibytes(base, quantization, recomputed):.1f}" for quantization, recomputed in columns]
    assert f"| {base} | {' | '.join(numbers)} |" in (ROOT / "docs" / "memory.md").read_text()


def _gibibytes(base: str, quantization: Quantization | None, recomputed: bool) -> float:
    parameters, config = BASES[base]
    plan = Plan(
        micro_batch_size=1, accumulation_steps=16, max_length=2048, total_steps=1, activation_checkpointing=recomputed
    )
    trainable = 16 * _widths(config) * config["num_hidden_layers"]
    return estimate_memory(config, parameters, trainable, plan, 2, quantization=quantization).total / 2**30


def _widths(config: Object) -> int:
    """Return inputs and outputs of all linear modules of a layer."""
    width, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    return 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)


def test_the_numbers_of_the_sizing_page_are_measured_ones() -> None:
    text, results = (ROOT / "docs" / "sizing.md").read_text(), (ROOT / "bench" / "RESULTS.md").read_text()
    table = text[text.index("| what | measured |") :].split("\n\n")[0]
    numbers = re.findall(r"\| (\d[\d.,]*(?: \w+)?) \|$", table, flags=re.MULTILINE)
    assert len(numbers) >= 5
    assert [each for each in numbers if not re.search(rf"\| {re.escape(each)}[ ,]", results)] == []


def test_the_limits_that_the_pages_name_are_the_installed_ones() -> None:
    (deployment,) = (each for each in install_objects() if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "512Mi"
    assert "the installed limit, 512Mi" in (ROOT / "docs" / "sizing.md").read_text()
