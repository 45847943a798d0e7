# shellcheck shell=bash
# Source it: cutting files for an array of jobs, and joining what the jobs wrote.

# num_jobs NJ FILE...: NJ, or the number of lines of the shortest file where that is smaller.
num_jobs() {
    local file num_lines jobs=$1
    for file in "${@:2}"; do
        [[ -f ${file} ]] || continue
        num_lines=$(wc -l <"${file}")
        jobs=$((num_lines < jobs ? num_lines : jobs))
    done
    printf '%s' "${jobs}"
}

# deal_lines N FILE PREFIX: deals the lines of FILE out to PREFIX.1.scp .. PREFIX.N.scp.
deal_lines() {
    awk -v n="$1" -v prefix="$3" '{ print > (prefix "." (NR - 1) % n + 1 ".scp") }' "$2"
}

# join_parts N DIR NAME...: joins and sorts DIR/logdir/output.1/NAME .. DIR/logdir/output.N/NAME into DIR/NAME.
join_parts() {
    local name part num_parts=$1 dir=$2
    for name in "${@:3}"; do
        for ((part = 1; part <= num_parts; part++)); do
            cat "${dir}/logdir/output.${part}/${name}"
        done | sort >"${dir}/.${name}"
        mv "${dir}/.${name}" "${dir}/${name}"
    done
}

# gather_stats N DIR TOKEN_TYPE TOKENS: joins the statistics DIR/logdir/stats.1 .. stats.N of ESPnet2 into DIR. Shapes are
# sorted, so that training does not depend on N, and text shapes get the vocabulary size, which ESPnet2's samplers count.
gather_stats() {
    local n part num_tokens dir=$2
    local -a parts=()
    for ((n = 1; n <= $1; n++)); do
        parts+=(--input_dir "${dir}/logdir/stats.${n}")
    done
    python3 -m espnet2.bin.aggregate_stats_dirs "${parts[@]}" --output_dir "${dir}"
    num_tokens=$(wc -l <"$4")
    for part in train valid; do
        sort -o "${dir}/${part}/speech_shape" "${dir}/${part}/speech_shape"
        sort "${dir}/${part}/text_shape" | sed "s/\$/,${num_tokens}/" >"${dir}/${part}/text_shape.$3"
    done
}
