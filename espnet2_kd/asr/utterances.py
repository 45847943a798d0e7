"""The audio of a data directory, utterance by utterance, for decoding."""

from pathlib import Path

import numpy as np

from espnet2_kd.data.audio import AudioFault, UnformattedFault, num_seconds, read_audio
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.problems import Problem

FORMAT = "format the set: python -m espnet2_kd.bin.format_audio"


class Utterances:
    """Audio of every utterance of a data directory at one sampling rate.

    Args:
        data_dir: checked data directory; wav.scp entries are files or ``ark:offset``, never commands.
        rate: sampling rate in Hz that the model wants.

    Raises:
        DataError: the directory is not valid.
    """

    def __init__(self, data_dir: str | Path, rate: int) -> None:
        self.data = DataDir.read(data_dir, need_text=False, allow_empty_text=True)
        self.rate = rate
        self.problems: list[Problem] = []

    @property
    def ids(self) -> list[str]:
        """Utterance ids in byte order."""
        return self.data.utts

    def text(self, utt: str) -> str | None:
        """Return the transcript, or None where there is none."""
        return self.data.tables.get("text", {}).get(utt)

    def num_samples(self, utt: str) -> int:
        """Return the length without decoding the audio where that is possible; 0 for an unreadable file."""
        known = self.data.tables.get("utt2num_samples", {}).get(utt)
        if known is not None:
            return int(known)
        recording, start, end = self.data.source(utt)
        if end == -1:
            try:
                end = num_seconds(self.data.tables["wav.scp"][recording])
            except AudioFault:
                samples = self.read(utt)
                return 0 if samples is None else len(samples)
        return round((end - start) * self.rate)

    def read(self, utt: str) -> np.ndarray | None:
        """Return samples ``(N,)``, or None for a fault, which is added to ``problems`` once."""
        recording, start, end = self.data.source(utt)
        try:
            samples, rate = read_audio(self.data.tables["wav.scp"][recording], start, end)
            if rate != self.rate:
                raise AudioFault(
                    f"{rate} Hz, the model was trained at {self.rate} Hz",
                    FORMAT,
                )
        except AudioFault as fault:
            line = self.data.lines.get(recording, 0)
            # Here there are no such options.
            remedy = f"{FORMAT}, {fault.remedy}" if isinstance(fault, UnformattedFault) else fault.remedy
            problem = Problem(str(self.data.path / "wav.scp"), line, utt, fault.what, remedy)
            if problem not in self.problems:
                self.problems.append(problem)
            return None
        return samples

    def batches(self, max_seconds: float) -> list[list[str]]:
        """Group all utterances, longest first, so that a padded batch holds at most ``max_seconds`` of audio.

        An utterance longer than that makes a batch of its own.
        """
        lens = {utt: self.num_samples(utt) for utt in self.ids}
        batches: list[list[str]] = []
        for utt in sorted(self.ids, key=lambda utt: (-lens[utt], utt)):
            if batches and (len(batches[-1]) + 1) * lens[batches[-1][0]] <= max_seconds * self.rate:
                batches[-1].append(utt)
            else:
                batches.append([utt])
        return batches
