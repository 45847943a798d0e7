import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet2_kd.asr import onnx_export
from espnet2_kd.bin import export_onnx

DOC = Path(__file__).parents[2] / "doc/onnx.md"
CONFS = {
    "chunk": {"chunk_ms": 80, "left_ms": 160, "conv_norm": "batch_norm"},
    "pool": {"chunk_ms": 160, "left_ms": 160, "right_ms": 80, "input_layer": "conv2d2", "pool_after": [1]},
}
SIZES = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}


def run(exp, *options):
    return export_onnx.main(["--exp", str(exp), *map(str, options)])


@pytest.mark.parametrize("name", CONFS)
def test_the_example_of_the_documentation_equals_the_model(name, tiny_experiment, tmp_path, capsys):
    for package in onnx_export.PACKAGES:
        pytest.importorskip(package)
    from espnet2_kd.asr.load import load_model

    exp = tiny_experiment(f"onnx_{name}", encoder_conf={**SIZES, **CONFS[name]})
    assert run(exp, "--output_dir", tmp_path, "--quantize", "true") == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3 and said.err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.int8.onnx", "encoder.onnx", "features.npz"]
    example = {}
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL))
    assert "torch" not in code
    exec(code, example)  # noqa: S102 (what a reader would paste)
    model, _ = load_model(exp, "valid.loss_transducer.ave.pth")
    for num in (16000, 12345):
        samples = np.random.default_rng(num).standard_normal(num).astype(np.float32) * 0.1
        with torch.no_grad():
            expected, _ = model.encode(torch.from_numpy(samples)[None], torch.tensor([num]))
        expected = expected[0].numpy()
        for file, limit in (("encoder.onnx", 1e-3), ("encoder.int8.onnx", None)):
            stream = example["Stream"](tmp_path, file)
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
