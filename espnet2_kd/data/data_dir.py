"""The Kaldi data directory as one value: its tables, and how they depend on each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.documents import read_text
from espnet2_kd.data.problems import raise_if_fatal
from espnet2_kd.data.table import Row, read_rows, replacing, write_table

UTT_TABLES = (
    "text",
    "transcript",
    "label",
    "segments",
    "utt2spk",
    "utt2dur",
    "utt2num_samples",
    "utt2uniq",
    "utt2lang",
)
SPK_TABLES = ("spk2gender",)
AUDIO_SUM = "audio_sum"
NOTES = ("feats_type", "audio_format", AUDIO_SUM)


@dataclass
class DataDir:
    """Tables of one data directory by file name, `{key: value}` each; spk2utt is derived from utt2spk on writing.

    `lines` holds the line of each wav.scp entry for messages, `notes` the one-word files (feats_type, audio_format, and
    audio_sum, see `sound_files.audio_sum`, of the audio that the directory, or what it is a part of, was written with).
    """

    path: Path
    tables: dict[str, dict[str, str]]
    notes: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        path: str | PathLike,
        *,
        need_text: bool = True,
        need_audio: bool = False,
        allow_empty_text: bool = False,
        allow_pipes: bool = False,
    ) -> DataDir:
        """Read and check a directory; raises DataError with every problem."""
        path = Path(path)
        raise_if_fatal(
            check_data_dir(
                path,
                need_text=need_text,
                need_audio=need_audio,
                allow_empty_text=allow_empty_text,
                allow_pipes=allow_pipes,
            )
        )
        return cls.read_unchecked(path)

    @classmethod
    def read_unchecked(cls, path: str | PathLike) -> DataDir:
        """Read whatever tables are there; of duplicate keys the last one counts."""
        path = Path(path)
        rows: dict[str, list[Row]] = {
            name: read_rows(path / name, [])
            for name in ("wav.scp", *UTT_TABLES, *SPK_TABLES)
            if (path / name).is_file()
        }
        return cls(
            path,
            {name: {row.key: row.value for row in table} for name, table in rows.items()},
            {name: read_text(path / name).strip() for name in NOTES if (path / name).is_file()},
            {row.key: row.line for row in rows.get("wav.scp", ())},
        )

    @property
    def utts(self) -> list[str]:
        """Utterance ids in byte order."""
        return sorted(self.tables["utt2spk"])

    def source(self, utt: str) -> tuple[str, float, float]:
        """Give recording id, start and end in seconds of `utt`; the end is -1 where the recording ends."""
        segments = self.tables.get("segments")
        if segments is None:
            return utt, 0.0, -1.0
        recording, start, end = segments[utt].split()
        return recording, float(start), float(end)

    def only(self, utts: Collection[str]) -> DataDir:
        """Give the part of this directory that belongs to `utts`."""
        keep = set(utts)
        tables = {
            name: {key: value for key, value in table.items() if key in keep}
            for name, table in self.tables.items()
            if name in UTT_TABLES
        }
        recordings = {self.source(utt)[0] for utt in keep}
        speakers = set(tables["utt2spk"].values())
        for name, table in self.tables.items():
            if name not in UTT_TABLES:
                keys = recordings if name == "wav.scp" else speakers
                tables[name] = {key: value for key, value in table.items() if key in keys}
        return DataDir(self.path, tables, dict(self.notes), dict(self.lines))

    def write(self, path: str | PathLike) -> DataDir:
        """Write every table to `path` and remove tables of an older version; wav.scp comes last and marks the end."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / "wav.scp").unlink(missing_ok=True)
        for name in (*UTT_TABLES, *SPK_TABLES):
            if name in self.tables:
                write_table(path / name, self.tables[name])
            else:
                (path / name).unlink(missing_ok=True)
        write_table(path / "spk2utt", spk2utt(self.tables["utt2spk"]))
        for name in NOTES:
            if name in self.notes:
                with replacing(path / name) as stream:
                    stream.write(self.notes[name] + "\n")
            else:
                (path / name).unlink(missing_ok=True)
        write_table(path / "wav.scp", self.tables["wav.scp"])
        return DataDir(path, self.tables, self.notes)


def spk2utt(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """Invert `{utterance: speaker}` into `{speaker: "utterance utterance ..."}`."""
    by_speaker: dict[str, list[str]] = {}
    for utt in sorted(utt2spk):
        by_speaker.setdefault(utt2spk[utt], []).append(utt)
    return {spk: " ".join(utts) for spk, utts in by_speaker.items()}


def utt2spk(spk2utt: Mapping[str, str]) -> dict[str, str]:
    """Invert `{speaker: "utterance utterance ..."}` into `{utterance: speaker}`."""
    return {utt: spk for spk, utts in spk2utt.items() for utt in utts.split()}
