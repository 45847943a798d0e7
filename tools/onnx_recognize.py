#!/usr/bin/env python3
"""Words of speech from what espnet2_kd.bin.export_onnx wrote: a program of numpy and onnxruntime, without torch.

    tools/onnx_recognize.py onnx speech.wav [--int8] [--piece_ms 40]

Prints the words whenever they change, as the audio is fed in pieces. Copy what you need into programs of your own: Encoder
makes frames of samples, Transducer or CIF labels of frames; doc/onnx.md describes the files.
"""

from __future__ import annotations

import argparse
import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime


def open_graph(path):
    if not Path(path).is_file():
        raise SystemExit(f"{path}: no such file: write it with python -m espnet2_kd.bin.export_onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Encoder:
    """Encoder frames of one stream of audio; samples lie between -1 and 1."""

    def __init__(self, folder, file="encoder.onnx"):
        self.features = np.load(Path(folder, "features.npz"))
        self.session = open_graph(Path(folder, file))
        about = self.session.get_modelmeta().custom_metadata_map
        self.about = {name: json.loads(value) for name, value in about.items()}
        if self.about["center"]:
            raise SystemExit("this model wants n_fft / 2 mirrored samples at both ends of the audio first")
        self.caches = {
            value.name: np.zeros([1, *value.shape[1:]], np.float32) for value in self.session.get_inputs()[3:]
        }
        self.first = np.array([self.about["lead"]])
        self.samples = np.zeros(0, np.float32)
        self.feats = np.zeros((self.about["lead"] * self.about["stride"], self.about["num_mels"]), np.float32)
        self.received = self.computed = 0

    def accept(self, samples):
        """Next samples (N,) -> encoder frames now complete (T, D)."""
        about, size, hop = self.about, self.about["n_fft"], self.about["hop_length"]
        self.samples = np.concatenate((self.samples, samples))
        num = max((len(self.samples) - size) // hop + 1, 0)
        if num:
            frames = np.lib.stride_tricks.sliding_window_view(self.samples, size)[: num * hop : hop]
            power = np.abs(np.fft.rfft(frames * self.features["window"])) ** 2
            feats = np.log(np.maximum(power @ self.features["mel"], self.features["floor"]))
            self.feats = np.concatenate((self.feats, feats.astype(np.float32)))
            self.samples = self.samples[num * hop :]
            self.received += num
        pieces = [np.zeros((0, about["output_size"]), np.float32)]
        while len(self.feats) >= about["window"]:
            pieces.append(self._chunk(about["no_end"]))
        return np.concatenate(pieces)

    def finish(self):
        """The frames that waited for audio that does not come."""
        about, end = self.about, self.received
        for kernel, stride in about["kernels_strides"]:
            end = (end - kernel) // stride + 1
        last, pieces = -(-max(end, 0) // about["rate"]), [np.zeros((0, about["output_size"]), np.float32)]
        while (begin := self.computed - about["delay"]) < last:
            missing = max(about["window"] - len(self.feats), 0)
            self.feats = np.pad(self.feats, ((0, missing), (0, 0)))
            piece = self._chunk(end - self.computed * about["rate"] + about["lead"])
            pieces.append(piece[: last - max(begin, 0)])
        return np.concatenate(pieces)

    def _chunk(self, end):
        about = self.about
        inputs = {
            "feats": self.feats[None, : about["window"]],
            "first": self.first,
            "end": np.array([end]),
            **self.caches,
        }
        frames, self.first, *caches = self.session.run(None, inputs)
        self.caches = dict(zip(self.caches, caches))
        self.feats = self.feats[about["shift"] :]
        begin, self.computed = self.computed - about["delay"], self.computed + about["chunk"]
        return frames[0, max(-begin, 0) :]


class Transducer:
    """Greedy search of a transducer: `labels` grows as frames come."""

    def __init__(self, folder, about):
        self.about = about
        self.predictor, self.joint = (open_graph(Path(folder, f"{name}.onnx")) for name in ("predictor", "joint"))
        self.states = {
            value.name: np.zeros([1, *value.shape[1:]], np.float32) for value in self.predictor.get_inputs()[1:]
        }
        self.labels = []
        self._predict(about["blank"])

    def accept(self, frames, final=False):
        """Next encoder frames (T, D), T >= 0; whether they are the last does not matter."""
        begin = num_here = 0
        while begin < len(frames):
            # All frames ahead with the same prediction at once: most of them are blank.
            ahead = frames[begin:]
            inputs = {"frames": ahead, "prediction": np.repeat(self.prediction, len(ahead), axis=0)}
            best = self.joint.run(None, inputs)[0].argmax(1)
            hits = np.flatnonzero(best != self.about["blank"])
            if not len(hits):
                return
            if hits[0]:
                num_here = 0
            begin, num_here = begin + int(hits[0]), num_here + 1
            self.labels.append(int(best[hits[0]]))
            self._predict(self.labels[-1])
            if num_here == self.about["max_symbols"]:
                begin, num_here = begin + 1, 0

    def _predict(self, label):
        self.prediction, *states = self.predictor.run(None, {"labels": np.array([label]), **self.states})
        self.states = dict(zip(self.states, states))


class CIF:
    """Greedy search of a CIF recogniser: a label for every token that fires."""

    def __init__(self, folder, about):
        self.about = about
        self.cif, self.decoder = (open_graph(Path(folder, f"{name}.onnx")) for name in ("cif", "decoder"))
        size = next(value.shape[1] for value in self.cif.get_inputs() if value.name == "token")
        self.frames = np.zeros((1, about["history"], size), np.float32)
        self.mass, self.token = np.zeros(1), np.zeros((1, size), np.float32)
        self.wanted = [value.name for value in self.decoder.get_inputs()]
        self.prefix = {name: np.zeros((1, 0, size), np.float32) for name in self.wanted if name.startswith("prefix_")}
        self.before, self.labels, self.num_tokens, self.ended = np.zeros((1, size), np.float32), [], 0, False
        self.forbidden = [about["blank"]] + ([] if about["cif_eos"] else [about["eos"]])

    def accept(self, frames, final=False):
        """Next encoder frames (T, D), T >= 0; after the final ones what is left may fire too."""
        about = self.about
        extra = about["history"] + about["lookahead"]
        self.frames = np.concatenate((self.frames, frames[None]), axis=1)
        if final:
            self.frames = np.pad(self.frames, ((0, 0), (0, about["lookahead"]), (0, 0)))
        if (num := self.frames.shape[1] - extra) > 0:
            inputs = {"frames": self.frames, "num": np.array([num]), "mass": self.mass, "token": self.token}
            tokens, counts, _, self.mass, self.token = self.cif.run(None, inputs)
            self.frames = self.frames[:, num:]
            for fired in tokens[0, : counts[0]]:
                self._label(fired[None])
        if final and about["tail"] is not None and self.mass[0] > about["tail"]:
            self._label((self.token * (about["threshold"] / self.mass[0])).astype(np.float32))

    def _label(self, fired):
        if self.ended:
            return
        inputs = {
            "fired": fired,
            "before": self.before,
            "labels": np.array([self.labels[-1] if self.labels else self.about["sos"]]),
            "place": np.array([self.num_tokens]),
            **self.prefix,
        }
        # A decoder that does not see the labels has no such input.
        log_probs, *prefix = self.decoder.run(None, {name: x for name, x in inputs.items() if name in self.wanted})
        self.prefix = dict(zip(self.prefix, prefix))
        log_probs[:, self.forbidden] = -np.inf
        self.before, self.num_tokens = fired, self.num_tokens + 1
        label = int(log_probs[0].argmax())
        if label == self.about["eos"]:
            self.ended = True
        else:
            self.labels.append(label)


class Recognizer:
    """Samples in, words so far out."""

    def __init__(self, folder, file="encoder.onnx"):
        if not Path(folder, "search.json").is_file():
            raise SystemExit(f"{folder}: no search.json: write it with python -m espnet2_kd.bin.export_onnx")
        about = json.loads(Path(folder, "search.json").read_text(encoding="utf-8"))
        self.tokens = Path(folder, "tokens.txt").read_text(encoding="utf-8").split("\n")[:-1]
        self.token_type = about["token_type"]
        self.encoder = Encoder(folder, file)
        self.search = {"transducer": Transducer, "cif": CIF}[about["kind"]](folder, about)

    def accept(self, samples):
        self.search.accept(self.encoder.accept(samples))
        return self.text

    def finish(self):
        self.search.accept(self.encoder.finish(), final=True)
        return self.text

    @property
    def text(self):
        tokens = [self.tokens[label] for label in self.search.labels]
        if self.token_type == "word":
            return " ".join(tokens)
        if self.token_type == "char":
            return " ".join("".join(" " if token == "<space>" else token for token in tokens).split())
        if self.token_type == "bpe":
            return " ".join("".join(tokens).replace("\u2581", " ").split())
        # Word pieces as BERT has them: what goes on with the word before begins with ##.
        return "".join(token[2:] if token.startswith("##") else f" {token}" for token in tokens).strip()


def read_wav(path, rate):
    with wave.open(str(path)) as sound:
        found = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        if found != (1, 2, rate):
            raise SystemExit(f"{path}: {found[0]} channel(s), {8 * found[1]} bits, {found[2]} Hz: "
                             f"make it mono, 16 bits, {rate} Hz: sox {path} -b 16 -c 1 -r {rate} new.wav")  # fmt: skip
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what export_onnx wrote")
    parser.add_argument("audio", nargs="+", help="wav files, mono, 16 bits")
    parser.add_argument("--int8", action="store_true", help="the encoder with 8-bit linear layers")
    parser.add_argument("--piece_ms", type=float, default=40.0, help="audio handed over at a time (default: 40)")
    args = parser.parse_args()
    for path in args.audio:
        recognizer = Recognizer(args.folder, "encoder.int8.onnx" if args.int8 else "encoder.onnx")
        rate = recognizer.encoder.about["sample_rate"]
        samples, size, shown = read_wav(path, rate), max(1, round(args.piece_ms * rate / 1000)), ""
        for begin in range(0, len(samples), size):
            if (text := recognizer.accept(samples[begin : begin + size])) != shown:
                shown = text
                print(f"{min(begin + size, len(samples)) / rate:8.2f} s  {shown}", flush=True)
        print(path, recognizer.finish(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
