"""Good files of every kind, small."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import soundfile
import torch

UTTS = ("a-1", "a-2", "b-1", "b-2")


def sound(container: str = "WAV", subtype: str | None = "PCM_16", channels: int = 1) -> bytes:
    """A twentieth of a second of noise."""
    stream = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (800, channels))
    soundfile.write(stream, samples, 16000, format=container, subtype=subtype)
    return stream.getvalue()


def archive(sound_file: bytes) -> bytes:
    """A Kaldi archive of one entry, as kaldiio writes it; the sound is at byte 2."""
    length = len(sound_file).to_bytes(4, "little")
    return b"a AUDIO" + bytes([4]) + length + sound_file


def weights() -> bytes:
    """A checkpoint of two small tensors, as torch writes it."""
    stream = io.BytesIO()
    torch.save({"encoder.weight": torch.zeros(2, 2), "decoder.bias": torch.ones(2)}, stream)
    return stream.getvalue()


def _table(values: dict[str, str]) -> bytes:
    return "".join(f"{key} {value}\n" for key, value in values.items()).encode()


DATA_DIR = {
    "wav.scp": _table({utt: f"{utt}.wav" for utt in UTTS}),
    "text": _table({utt: "turn on the lamp é" for utt in UTTS}),
    "utt2spk": _table({utt: utt[0] for utt in UTTS}),
    "spk2utt": _table({"a": "a-1 a-2", "b": "b-1 b-2"}),
    "utt2dur": _table({utt: "0.05" for utt in UTTS}),
    "utt2num_samples": _table({utt: "800" for utt in UTTS}),
    "label": _table({utt: "intent=light_on room=hall" for utt in UTTS}),
    "spk2gender": b"a m\nb f\n",
}
SEGMENTED = {
    "wav.scp": b"r1 a-1.wav\nr2 b-1.wav\n",
    "segments": b"a-1 r1 0 0.02\na-2 r1 0.02 -1\nb-1 r2 0.0 0.03\nb-2 r2 0.01 0.05\n",
    **{name: DATA_DIR[name] for name in ("text", "utt2spk", "spk2utt")},
}
TSV = "utt_id\tspeaker\tpath\ttext\tintent\tsplit\n" + "".join(
    f"{utt}\t{utt[0]}\t{utt}.wav\tturn on the lamp\tlight_on\t{'train' if utt[0] == 'a' else 'test'}\n" for utt in UTTS
)
STRINGS = "string_id\tspeaker\ttext\tutt_ids\tgaps_ms\ns1\ta\tlamp lamp\ta-1 a-2\t10 20 30\ns2\tb\tlamp\tb-1\t0 5\n"
CONFIG = b"""base: base.yaml
encoder: chunk_conformer
encoder_conf: {output_size: 64, num_blocks: 4, chunk_ms: 160}
max_epoch: 8
best_model_criterion:
- [valid, acc, max]
"""
BASE = b"# the base\nencoder: conformer\nencoder_conf:\n  dropout_rate: 0.1\n  left_ms: .inf\noptim: adamw\n"
TERMS = b"""- name: l4
  student: encoder.encoders.3
  head: &branch {nonstreaming: {num_heads: 4, mask: hole, shift: 4}}
  losses: &losses
    distance: {weight: 0.01}
    relation: {weight: {warmup: {weight: 0.5, steps: 10}}, num_heads: 4}
    future: {weight: 0.005, shift: 4}
- {name: l8, student: encoder.encoders.7, head: *branch, losses: *losses}
- {name: acd, student: cif, teacher: encoder.layer.5, head: projection, loss: {contrastive: {temperature: 0.02}}, per: token, weight: 1.0}
- {name: h4, student: decoder.layers.3, teacher: encoder.layer.5, match: token_pool, head: projection, loss: mse, weight: {cosine: {weight: 1, steps: 5}}}
"""
DECODE = b"search: beam\nbeam_size: 4\nmax_symbols: 3\nchunk_ms: 160\nleft_ms: .inf\nlm_weight: 0.2\n"
TOKENS = {
    "tokens.txt": b"<blank>\n<unk>\na\nb\n<space>\n<sos/eos>\n",
    "token_type": b"char\n",
    "nlsyms.txt": b"<noise>\n",
}
_COUNTS = {"corr": 9, "sub": 1, "del": 0, "ins": 0, "err": 1, "s_err": 1}
_RATES = {
    "snt": 2,
    "wrd": 10,
    "corr": 90.0,
    "sub": 10.0,
    "del": 0.0,
    "ins": 0.0,
    "err": 10.0,
    "s_err": 50.0,
    "counts": _COUNTS,
}
SCORE = json.dumps(
    {"wer": _RATES, "cer": _RATES, "policy": {"case_sensitive": False, "escaped_utts": 0, "case_only_utts": 0}}
).encode()
RUN = json.dumps(
    {
        **{
            "name": "train_kd",
            "role": "distilled",
            "seed": 1,
            "config": "conf/train_kd.yaml",
            "command": "python -m x --seed 1",
        },
        **{"git_hash": None, "git_date": None, "git_dirty": None, "versions": {"python": "3.11.7", "torch": "2.11.0"}},
        **{
            "machine": {"cpu": "x", "cores": 2, "gpu": None},
            "num_parameters": 1000,
            "train_seconds": 5.0,
            "teacher": "exp/t",
        },
    }
).encode()
STREAM = json.dumps(
    {
        **{
            "mode": "streaming",
            "rtf": 0.1,
            "first_token_ms": {"mean": 1.0, "p50": 1.0, "p90": 2.0},
            "emission_delay_ms": None,
        },
        **{
            "first_token_from": "first_word_end",
            "chunk_ms": 160.0,
            "num_utts": 2,
            "num_empty": 0,
            "num_not_aligned": 0,
        },
        **{"audio_seconds": 4.0, "piece_ms": 40.0, "threads": 1, "device": "cpu", "max_utts": 50},
    }
).encode()
RESULT = b"""sclite: 2.10

                     SYSTEM SUMMARY PERCENTAGES by SPEAKER

      ,-----------------------------------------------------------------.
      |                             hyp.trn                             |
      |-----------------------------------------------------------------|
      | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |
      |--------+-------------+-----------------------------------------|
      | a      |    2     10 | 90.0   10.0    0.0    0.0   10.0   50.0 |
      |=================================================================|
      | Sum/Avg|    2     10 | 90.0   10.0    0.0    0.0   10.0   50.0 |
      | Sum    |    2     10 |    9      1      0      0      1      1 |
      `-----------------------------------------------------------------'

id: (a-1)
Scores: (#C #S #D #I) 4 1 0 0
REF:  turn ON  the lamp
HYP:  turn OFF the lamp
Eval:      S
"""
SCORES = {
    "score.json": SCORE,
    "stream.json": STREAM,
    "score_wer/result.txt": RESULT,
    "score_wer/ref.trn": b"turn on the lamp now\t(a-1)\nturn off the lamp now\t(a-2)\n",
    "score_wer/hyp.trn": b"turn off the lamp now\t(a-1)\nturn off the lamp now\t(a-2)\n",
}
TRAIN_LOG = b"""# python3 -m espnet2_kd.bin.asr_train --seed 1
# Started at Fri Nov 27 14:11:20 UTC 2026
#
[host] 2026-11-27 14:11:23,276 (trainer:324) INFO: 2/8epoch started. Estimated time to finish: 7.95 seconds
[host] 2026-11-27 14:11:23,276 (trainer:394) INFO: 2epoch results: [train] loss=1.5, [valid] loss=2.5, acc=0.5, time=0.2 seconds, total_count=4
# Accounting: time=3 threads=1
# Ended (code 0) at Fri Nov 27 14:11:26 UTC 2026, elapsed time 3 seconds
"""
INDEX = (
    json.dumps({"made_by": {"teacher": "espnet"}, "attention": {"q": ".self_attn.linear_q"}})
    + "\n"
    + json.dumps({"name": "shard.000000.safetensors", "utts": {"a-1": 800}, "bytes": 4, "sha256": "0" * 64})
    + "\n"
).encode()
STAMP = json.dumps({"fingerprint": "f", "result": {"files": {"format.1/a-1.flac": 4}, "bad": []}}).encode()
META = b"espnet: '202511'\nfiles:\n  asr_model_file: exp/x/ave.pth\npython: 3.11.7\ntimestamp: 1.5\ntorch: 2.11.0\nyaml_files:\n  asr_train_config: exp/x/config.yaml\n"
PACKED = {"meta.yaml": META, "exp/x/ave.pth": b"weights", "exp/x/config.yaml": BASE}


def packed(members: dict[str, bytes]) -> bytes:
    """A zip of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(zipfile.ZipInfo(name or "x"), content)
    return stream.getvalue()
