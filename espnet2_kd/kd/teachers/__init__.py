"""Frozen sources of targets."""

from espnet2_kd.kd.registry import Registry

TEACHERS = Registry("teacher")

from espnet2_kd.kd.teachers import dual, dumped, espnet, hf_sentence, hf_speech, hf_text  # noqa: E402, F401  (they register)
