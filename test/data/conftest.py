from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def make_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make data directory `data/<name>` of utterances `spk<i>-u<j>`, each a tone of 440 Hz, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "train", utts: int = 4, fs: int = 16000, seconds: float = 0.5) -> Path:
        audio = Path("downloads") / name
        audio.mkdir(parents=True)
        folder = Path("data") / name
        folder.mkdir(parents=True)
        ids = [f"spk{index % 2}-u{index:03d}" for index in range(utts)]
        ids.sort()
        rng = np.random.default_rng(len(name))
        for utt in ids:
            num = round(seconds * fs)
            tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(num) / fs)
            soundfile.write(audio / f"{utt}.wav", tone + 0.01 * rng.standard_normal(num), fs, subtype="PCM_16")
        (folder / "wav.scp").write_text("".join(f"{utt} {audio}/{utt}.wav\n" for utt in ids))
        (folder / "text").write_text("".join(f"{utt} turn on lamp {int(utt[-3:])}\n" for utt in ids))
        (folder / "utt2spk").write_text("".join(f"{utt} {utt[:4]}\n" for utt in ids))
        by_speaker: dict[str, list[str]] = {}
        for utt in ids:
            by_speaker.setdefault(utt[:4], []).append(utt)
        (folder / "spk2utt").write_text("".join(f"{spk} {' '.join(of)}\n" for spk, of in by_speaker.items()))
        return folder

    return make
