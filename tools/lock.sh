#!/usr/bin/env bash
# Writes tools/requirements.lock anew: one list of exact versions for Python 3.10 to 3.12. Needs uv and the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without index addresses, so that every mirror serves. Without hashes, since a CPU build of torch has others. Without
# what torch itself pins (CUDA libraries, triton; a CPU build has none), and without pyworld: it needs a C++ compiler to
# install, and only ESPnet2's singing synthesis uses it.
left_out='nvidia-|cuda-|triton==|pyworld=='
{
    echo "# Written by tools/lock.sh from pyproject.toml; used by tools/setup.sh."
    uv pip compile --quiet --universal --python-version 3.10 --extra test --no-emit-index-url --no-emit-find-links \
        --no-header --no-annotate pyproject.toml | grep -vE "^(${left_out})" | grep -v "== 'emscripten'"
} >tools/requirements.lock.tmp
mv tools/requirements.lock.tmp tools/requirements.lock
