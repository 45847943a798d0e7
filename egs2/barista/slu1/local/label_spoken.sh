#!/usr/bin/env bash
# After stage 5: joins recordings and spoken orders to a training set, in equal parts, as <dumpdir>/frames/train_labelled.
# Usage: local/label_spoken.sh [--dumpdir dump]   (what it is for: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dumpdir=dump                        # as run.sh has it
sentences=data/local/sentences.tsv  # what the orders mean, by the grammar that wrote them

. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"
. "${KD_ROOT}/utils/parse_options.sh"
. "${KD_ROOT}/utils/log.sh"
. "${KD_ROOT}/utils/once.sh"
recorded=${dumpdir}/frames/train
spoken=${dumpdir}/frames/unlabelled
joined=${dumpdir}/frames/train_labelled

# labels_of_spoken: a line of each order, in the order of its table.
labels_of_spoken() {
    awk -F '\t' -v table="${spoken}/text" '
        FNR == NR { slots[$1] = $2; next }
        {
            utt = $0; sub(/ .*/, "", utt)
            words = substr($0, length(utt) + 2)
            if (!(words in slots)) {
                printf "%s:%d: %s: the sentences of the grammar do not have \"%s\": run stage 1 again\n", table, FNR, utt, words >"/dev/stderr"
                exit 1
            }
            print utt, slots[words]
        }' "${sentences}" "${spoken}/text"
}

join_tables() {
    local table copy num_recorded num_spoken copies
    num_recorded=$(wc -l <"${recorded}/label")
    num_spoken=$(wc -l <"${spoken}/text")
    copies=$(((num_spoken + num_recorded / 2) / num_recorded))
    ((copies > 0)) || copies=1
    labels_of_spoken >"${joined}/spoken_label"
    for table in frames.scp frames_shape label text utt2spk; do
        {
            for ((copy = 1; copy <= copies; copy++)); do
                awk -v copy="${copy}" '{ $1 = $1 "-copy" copy; print }' "${recorded}/${table}"
            done
            if [[ ${table} == label ]]; then
                cat "${joined}/spoken_label"
            else
                cat "${spoken}/${table}"
            fi
        } | sort >"${joined}/${table}"
    done
    cat "${recorded}/frames.sha256" "${spoken}/frames.sha256" >"${joined}/frames.sha256"
    log "${joined}: ${num_recorded} recordings, each ${copies} times, and ${num_spoken} spoken orders"
}

for file in "${sentences}" "${recorded}/frames.scp" "${spoken}/frames.scp"; do
    [[ -f ${file} ]] || fail "no file ${file}: run stages 1 to 5 of run.sh with --unlabelled_set unlabelled (README.md)"
done
once "${joined}/.done" "${sentences}" "${recorded}"/{frames.scp,frames_shape,frames.sha256,label,text,utt2spk} \
    "${spoken}"/{frames.scp,frames_shape,frames.sha256,text,utt2spk} -- join_tables
