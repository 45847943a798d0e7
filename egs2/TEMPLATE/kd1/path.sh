# shellcheck shell=bash
# Source it: makes the environment of tools/setup.sh and this project's commands known to the shell and to Python.

KD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
export KD_ROOT
KD_VENV=${KD_VENV:-${KD_ROOT}/tools/venv}
[[ $- != *i* || -x ${KD_VENV}/bin/python ]] ||  # scripts say so themselves
    printf 'path.sh: no environment in %s: please type  make -C %s setup\n' "${KD_VENV}" "${KD_ROOT}" >&2
# Debian puts sclite and its companions outside the PATH.
export PATH="${KD_VENV}/bin:${KD_ROOT}/utils:${PATH}:/usr/lib/sctk/bin"
export PYTHONPATH="${KD_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"

# Kaldi's files are sorted by bytes; Python reads and writes UTF-8 all the same.
export LC_ALL=C PYTHONUTF8=1
# Importing ESPnet2 looks for two nltk archives and downloads them when they are missing; the set-up leaves empty ones.
export NLTK_DATA="${NLTK_DATA:+${NLTK_DATA}:}${KD_VENV}/nltk_data"
# Threads that wait for each other spin by default; beside any other load they then take the core from the one they wait
# for, and a step of training takes tens of times as long.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
# Training on a CPU frees large blocks and asks for them again in every step. Kept, and in huge pages, they cost less.
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-4294967296} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8589934592}
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1} THP_MEM_ALLOC_ENABLE=${THP_MEM_ALLOC_ENABLE:-1}
