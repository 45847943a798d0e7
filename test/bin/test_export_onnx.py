import importlib.util
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet2_kd.asr import onnx_export, onnx_search
from espnet2_kd.bin import export_onnx

EXAMPLE = Path(__file__).parents[2] / "tools/onnx_recognize.py"
ENCODER = ["encoder.int8.onnx", "encoder.onnx", "features.npz"]
TRANSDUCER_FILE = "valid.loss_transducer.ave.pth"
TRANSDUCER = ["joint.onnx", "predictor.onnx", "search.json", "tokens.txt"]
CONFS = {
    "chunk": {"chunk_ms": 80, "left_ms": 160, "conv_norm": "batch_norm"},
    "pool": {"chunk_ms": 160, "left_ms": 160, "right_ms": 80, "input_layer": "conv2d2", "pool_after": [1]},
}
SIZES = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}


# Whatever the example imports of these is an error, as on a machine that has not got them.
WITHOUT = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "espnet2", "espnet2_kd", "soundfile"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def load_example():
    spec = importlib.util.spec_from_file_location("onnx_recognize", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(exp, *options):
    return export_onnx.main(["--exp", str(exp), *map(str, options)])


@pytest.mark.parametrize("name", CONFS)
def test_the_example_s_encoder_equals_the_model(name, tiny_experiment, tmp_path, capsys):
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    from espnet2_kd.asr.load import load_model

    exp = tiny_experiment(f"onnx_{name}", encoder_conf={**SIZES, **CONFS[name]})
    assert run(exp, "--output_dir", tmp_path, "--quantize", "true") == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5 and said.err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ENCODER + TRANSDUCER)
    example = load_example()
    model, _ = load_model(exp, "valid.loss_transducer.ave.pth")
    for num in (16000, 12345):
        samples = np.random.default_rng(num).standard_normal(num).astype(np.float32) * 0.1
        with torch.no_grad():
            expected, _ = model.encode(torch.from_numpy(samples)[None], torch.tensor([num]))
        expected = expected[0].numpy()
        for file, limit in (("encoder.onnx", 1e-3), ("encoder.int8.onnx", None)):
            stream = example.Encoder(tmp_path, file)
            pieces = [stream.accept(samples[start : start + 1000]) for start in range(0, num, 1000)]
            assert sum(map(len, pieces)) > 0
            actual = np.concatenate([*pieces, stream.finish()])
            assert actual.shape == expected.shape
            difference = np.abs(actual - expected)
            assert difference.max() < limit if limit else 0 < difference.mean() < 0.1


def test_metadata_says_how_to_run_it(tiny_experiment, tmp_path):
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    import onnxruntime

    exp = tiny_experiment("onnx_metadata", encoder_conf={**SIZES, **CONFS["chunk"]})
    config = tmp_path / "decode.yaml"
    config.write_text("chunk_ms: 160\n")
    assert run(exp, "--output_dir", tmp_path / "onnx", "--config", config) == 0
    session = onnxruntime.InferenceSession(tmp_path / "onnx/encoder.onnx", providers=["CPUExecutionProvider"])
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert (about["chunk"], about["window"], about["shift"], about["delay"], about["lead"]) == (4, 19, 16, 0, 0)
    assert about["sample_rate"] == 16000 and about["hop_length"] == 160 and about["n_fft"] == 512
    assert about["kernels_strides"] == [[3, 2], [3, 2]] and about["frame_ms"] == 40 and about["center"] is False
    assert "quantized" not in about
    assert {value.shape[0] for value in session.get_inputs()} == {"streams"}


def test_what_cannot_be_exported_is_said(tiny_experiment, tmp_path, capsys, monkeypatch):
    teacher = tiny_experiment("onnx_teacher", encoder_conf={})
    for package in onnx_export.PACKAGES:
        if onnx_export.importlib.util.find_spec(package) is None:
            monkeypatch.setattr(onnx_export, "PACKAGES", ())
    assert run(teacher, "--output_dir", tmp_path) == 1
    assert "bounded left context" in capsys.readouterr().err
    monkeypatch.setattr(onnx_export, "PACKAGES", ("no_such_package",))
    assert run(teacher, "--output_dir", tmp_path) == 1
    assert "not installed: no_such_package: `pip install" in capsys.readouterr().err


def test_a_graph_that_differs_is_not_kept(tiny_experiment, tmp_path, capsys, monkeypatch):
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    exp = tiny_experiment("onnx_wrong", encoder_conf={**SIZES, **CONFS["chunk"]})
    right = onnx_export.OnnxStep.forward

    def forward(self, feats, first, end, *caches):
        return right(self, feats * 1.01, first, end, *caches)

    monkeypatch.setattr(onnx_export.OnnxStep, "forward", forward)
    assert run(exp, "--output_dir", tmp_path) == 1
    assert "encoder.onnx: differs from the model by" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]


def test_a_search_that_differs_is_not_kept(make_cif_experiment, tmp_path, capsys, monkeypatch):
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    exp = make_cif_experiment("onnx_wrong")
    right = onnx_search.CIFStep.forward

    def forward(self, frames, num, mass, token):
        return right(self, frames, num, mass + 0.01, token)

    monkeypatch.setattr(onnx_search.CIFStep, "forward", forward)
    assert run(exp, "--model_file", "valid.acc.ave.pth", "--output_dir", tmp_path) == 1
    assert "cif.onnx: differs from the model by" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.onnx", "features.npz"]


def students(kind, tiny_experiment, make_cif_experiment):
    """Experiment, checkpoint and settings of the decoding."""
    if kind == "lstm":
        return (
            tiny_experiment("onnx_lstm", encoder_conf={**SIZES, **CONFS["pool"]}),
            TRANSDUCER_FILE,
            {"max_symbols": 2},
        )
    # Seeds whose random labels are not all the same.
    seed, conf, decoder = {
        "cif": (4, {}, {}),
        "paraformer": (
            2,
            {"kernel_size": 5, "lookahead": 1, "depthwise": True, "residual": True, "activation": "relu"}
            | {"smooth_factor": 1.4, "noise_threshold": 0.05, "threshold": 0.6},
            {"autoregressive": False},
        ),
    }[kind]
    exp = make_cif_experiment(f"onnx_{kind}", cif_conf=conf, decoder_conf=decoder, seed=seed)
    return exp, "valid.acc.ave.pth", {"tail": 0.3}


@pytest.mark.parametrize("kind", ["lstm", "cif", "paraformer"])
def test_words_without_torch_are_those_of_the_model(kind, tiny_experiment, make_cif_experiment, tmp_path):
    """Of streams of several lengths, fed in pieces of several sizes; too short ones too."""
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    from espnet2_kd import from_pretrained

    exp, checkpoint, settings = students(kind, tiny_experiment, make_cif_experiment)
    (tmp_path / "decode.yaml").write_text(json.dumps(settings))
    options = ("--model_file", checkpoint, "--config", tmp_path / "decode.yaml", "--output_dir", tmp_path / "onnx")
    assert run(exp, *options) == 0
    model = from_pretrained(exp, model_file=checkpoint, decoding=settings)
    expected, commands = {}, []
    for num, piece_ms in ((100, 40), (8000, 10), (30000, 333)):
        samples = (np.random.default_rng(num).standard_normal(num) * 3000).astype("<i2")
        with wave.open(str(tmp_path / f"{num}.wav"), "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", None))
            sound.writeframes(samples.tobytes())
        expected[num] = model((samples, 16000))
        command = [str(EXAMPLE), str(tmp_path / "onnx"), str(tmp_path / f"{num}.wav"), "--piece_ms", str(piece_ms)]
        done = subprocess.run([sys.executable, "-c", WITHOUT, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        commands.append(done.stdout.splitlines())
        assert commands[-1][-1] == f"{tmp_path / f'{num}.wav'} {expected[num]}"
    assert (
        expected[100] == "" and len(expected[30000]) > 15 and len(set(expected[30000])) > (1 if kind == "lstm" else 4)
    )
    # Words came while the audio did.
    assert len(commands[-1]) >= 4 and " 0.33 s  " not in commands[-1][-2]


def test_the_example_says_what_is_wrong(tmp_path):
    done = subprocess.run([sys.executable, EXAMPLE, tmp_path, "x.wav"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}: no search.json: write it with python -m espnet2_kd.bin.export_onnx\n"
