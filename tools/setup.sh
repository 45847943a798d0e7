#!/usr/bin/env bash
# Makes tools/venv with the versions of tools/requirements.lock, and installs the programs that are not Python's.
# Running it again is quick; an interrupted run is taken up. PIP_EXTRA_INDEX_URL, UV_EXTRA_INDEX_URL and the like are
# honoured, e.g. for an index of CPU builds of torch. KD_VENV names another place, KD_PYTHON the Python to start from.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${KD_VENV:-${tools}/venv}
lock=${tools}/requirements.lock
system_packages=(sctk espeak-ng shellcheck bats)

# uv reads its own variables only, pip the others. A pinned version may lie on any of the indexes.
export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}}
export UV_EXTRA_INDEX_URL=${UV_EXTRA_INDEX_URL:-${PIP_EXTRA_INDEX_URL:-}}
export PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-${UV_EXTRA_INDEX_URL}}
export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}

say() {
    printf 'setup: %s\n' "$*"
}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# as_root COMMAND...: runs it where that needs no question; status 1 where it does.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# install_packages NAME...: through apt, or says what to type; status 1 where they are still missing.
install_packages() {
    if command -v apt-get >/dev/null; then
        say "installing $* with apt-get"
        if as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@"; then
            return
        fi
    fi
    say "could not install $*; please type:  sudo apt-get install $*"
    return 1
}

install_system_packages() {
    local name
    local -a missing=()
    for name in "${system_packages[@]}"; do
        command -v "${name}" >/dev/null || missing+=("${name}")
    done
    # Not fatal: the stages that need one of them check for it, and say so.
    [[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}" || true
    # The tests of jobs on a cluster start a Slurm of their own, those of web pages a browser; they are skipped where there is none.
    { command -v sbatch && command -v munge; } >/dev/null || install_packages slurm-wlm munge || true
    command -v chromium >/dev/null || install_packages chromium || true
}

# python_fits COMMAND: whether it is a Python that the locked packages are made for.
python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    local name
    for name in ${KD_PYTHON:+"${KD_PYTHON}"} python3 python3.12 python3.11 python3.10; do
        if command -v "${name}" >/dev/null && python_fits "${name}"; then
            command -v "${name}"
            return
        fi
    done
    if command -v uv >/dev/null; then
        printf '>=3.10,<3.13'  # uv finds more Pythons than there are in PATH, and can fetch one
        return
    fi
    fail "no Python 3.10, 3.11 or 3.12 found; set KD_PYTHON, or type:  sudo apt-get install python3.12 python3.12-venv"
}

make_venv() {
    local python=$1
    if command -v uv >/dev/null; then
        uv venv --quiet --python "${python}" "${venv}"
        return
    fi
    if ! "${python}" -c 'import ensurepip' 2>/dev/null; then
        install_packages "$("${python}" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" ||
            fail "Python cannot make an environment without it"
    fi
    "${python}" -m venv "${venv}"
}

pip_install() {
    local -a quiet=(--quiet)
    [[ ! -t 2 ]] || quiet=()  # gigabytes may come: on a terminal their progress is shown
    if command -v uv >/dev/null; then
        uv pip install "${quiet[@]}" --compile-bytecode --python "${venv}/bin/python" "$@"
    else
        "${venv}/bin/python" -m pip install "${quiet[@]}" --disable-pip-version-check "$@"
    fi
}

# espnet2's English pronunciations look for two nltk archives when they are imported, and go to the network for them.
# Nothing here uses them; empty ones keep every start quick, quiet and off the network.
make_nltk_data() {
    "${venv}/bin/python" - "${venv}/nltk_data" <<'PYTHON'
import sys, zipfile
from pathlib import Path
for name in ("taggers/averaged_perceptron_tagger_eng.zip", "corpora/cmudict.zip"):
    path = Path(sys.argv[1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    zipfile.ZipFile(path, "w").close()
PYTHON
}

make_environment() {
    local stamp=${venv}/.kd-complete key python
    key=$(sha256sum "${lock}" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)
    if [[ -f ${stamp} && $(<"${stamp}") == "${key}" ]] && "${venv}/bin/python" -c '' 2>/dev/null; then
        return
    fi
    if ! { [[ -x ${venv}/bin/python ]] && python_fits "${venv}/bin/python"; }; then
        python=$(find_python)
        # KD_VENV may name a folder with something else in it.
        [[ ! -d ${venv} || -f ${venv}/pyvenv.cfg || -f ${stamp} || -z $(ls -A "${venv}") ]] ||
            fail "${venv} is no virtual environment, and not empty: give KD_VENV a folder of its own, or remove this one"
        say "making ${venv} with ${python}"
        rm -rf "${venv}"
        make_venv "${python}"
    fi
    rm -f "${stamp}"
    say "installing the packages of ${lock##*/} (a few minutes the first time)"
    # torch with what it brings along (CUDA libraries, or none from an index of CPU builds); all else as locked.
    pip_install --constraint "${lock}" torch torchaudio
    pip_install --no-deps --requirement "${lock}"
    make_nltk_data
    printf '%s\n' "${key}" >"${stamp}"
    say "done: ${venv}"
}

[[ $# -eq 0 ]] || fail "takes no arguments"
install_system_packages
make_environment
