"""Speech encoders of Hugging Face transformers as teachers: wav2vec 2.0, HuBERT, WavLM and their kin, and Whisper's encoder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet2_kd.data.problems import first_line
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq, length_mask
from espnet2_kd.kd.taps import as_seq, module_at, record
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.hub import model_files
from espnet2_kd.kd.teachers.teacher import Teacher

FS = 16000
WHISPER_HOP = 320  # samples per frame of its encoder: mel frames of 160, every second one
WHISPER_SECONDS = 30


@TEACHERS.add("hf_speech")
class HFSpeechTeacher(Teacher):
    """A speech encoder, by its directory or its name on the hub; hears 16 kHz audio and needs no labels.

    Taps are paths inside the encoder: `encoder.layers.5` of wav2vec 2.0, HuBERT or WavLM, `layers.5` of Whisper. All give a
    frame per 20 ms; a student with fewer needs `head: {frame_rate: {up: 2}}`, which also maps the width, or the same `up` in a
    `nonstreaming` head.

    What an utterance gives does not depend on the others in its batch: models that normalise over the whole recording
    (`feat_extract_norm: group`, such as wav2vec2-base) hear one utterance at a time.

    Args:
        model: directory with `config.json`, or a name on the hub such as `microsoft/wavlm-base-plus`.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModel

        try:
            whole = AutoModel.from_pretrained(model, trust_remote_code=False, dtype=torch.float32)
            self.extractor = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError) as error:
            where = "is no directory here" if not os.path.exists(model) else "cannot be loaded"
            raise ConfigError(f"teacher hf_speech: {model} {where}: {first_line(error)}") from error
        self.is_whisper = whole.config.model_type == "whisper"
        if not self.is_whisper and not hasattr(whole, "_get_feat_extract_output_lengths"):
            raise ConfigError(f"teacher hf_speech: {model} is a {whole.config.model_type}, which does not hear audio")
        if self.extractor.sampling_rate != FS:
            raise ConfigError(
                f"teacher hf_speech: {model} hears {self.extractor.sampling_rate} Hz, where 16000 is supported"
            )
        self.model: nn.Module = (whole.encoder if self.is_whisper else whole).eval().requires_grad_(False)
        projection = ".self_attn" if self.is_whisper else ".attention"
        self.attention = {key: f"{projection}.{key}_proj" for key in "qkv"}
        self.paths: set[str] = set()
        if whole.config.model_type == "wavlm":
            for name, module in self.model.named_modules():
                if name.endswith(projection):
                    module.register_forward_pre_hook(partial(self._project, name))

    def _project(self, name: str, attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Run the projections that are watched: WavLM hands their weights to one function and never calls them."""
        for key in "qkv":
            if f"{name}.{key}_proj" in self.paths:
                getattr(attention, f"{key}_proj")(inputs[0])

    @staticmethod
    def files(model: str) -> list[Path]:
        """The files that decide what this teacher says."""
        return model_files(model)

    def watch(self, paths: set[str]) -> None:
        for path in paths:
            module_at(self.model, path, "teacher tap")
        self.paths = set(paths)

    @torch.no_grad()
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        speech, lens = batch["speech"], batch["speech_lengths"]
        if next(self.model.parameters()).device != speech.device:
            self.model.to(speech.device)
        if self.is_whisper:
            return self._whisper(speech, lens, batch.get("utt_id"))
        normalised = self._normalise(speech, lens)
        if self.model.config.feat_extract_norm == "layer":
            mask = length_mask(lens, speech.shape[1]).long()
            values = self._run(normalised, attention_mask=mask)
        else:
            parts = [self._run(x[None, :n]) for x, n in zip(normalised, lens.tolist(), strict=True)]
            values = {path: _stack([part[path] for part in parts]) for path in self.paths}
        frames = self.model._get_feat_extract_output_lengths(lens)
        return {path: Seq(x, frames) for path, x in values.items()}

    def _run(self, *inputs: Tensor, **keywords: Tensor) -> dict[str, Tensor]:
        with record(self.model, self.paths) as recorded:
            self.model(*inputs, **keywords)
        missing = sorted(self.paths - recorded.keys())
        if missing:
            raise ConfigError(f"teacher taps that never run in {type(self.model).__name__}: {', '.join(missing)}")
        return {path: as_seq(value).x for path, value in recorded.items()}

    def _normalise(self, speech: Tensor, lens: Tensor) -> Tensor:
        mask = length_mask(lens, speech.shape[1])
        x = speech.float().masked_fill(~mask, 0.0)
        if self.extractor.do_normalize:
            count = lens.unsqueeze(1)
            mean = x.sum(1, keepdim=True) / count
            var = ((x - mean).masked_fill(~mask, 0.0) ** 2).sum(1, keepdim=True) / count
            x = ((x - mean) / torch.sqrt(var + 1e-7)).masked_fill(~mask, 0.0)
        return x

    def _whisper(self, speech: Tensor, lens: Tensor, utts: list[str] | None) -> dict[str, Seq]:
        for b, n in enumerate(lens.tolist()):
            if n > WHISPER_SECONDS * FS:
                raise ConfigError(
                    f"teacher hf_speech: {utts[b] if utts else f'utterance {b + 1} of a batch'} has {n / FS:.1f} s and Whisper hears "
                    f"{WHISPER_SECONDS}; lower --max_wav_duration"
                )
        audio = [x[:n].float().cpu().numpy() for x, n in zip(speech, lens.tolist(), strict=True)]
        mel = self.extractor(audio, sampling_rate=FS, return_tensors="pt", device=str(speech.device)).input_features
        frames = torch.div(lens + WHISPER_HOP - 1, WHISPER_HOP, rounding_mode="floor")
        values = self._run(mel.to(speech.device))
        # Always 30 s long: what follows the utterance is cut off.
        return {path: Seq(x[:, : int(frames.max())], frames) for path, x in values.items()}


def _stack(rows: list[Tensor]) -> Tensor:
    longest = max(row.shape[1] for row in rows)
    return torch.cat([F.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
