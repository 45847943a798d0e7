import os

from espnet2_kd.asr.freshness import decoding_inputs, is_fresh


def write(path, date):
    path.write_text("")
    os.utime(path, (date, date))
    return path


def test_outputs_must_all_be_there_and_newer_than_all_inputs(tmp_path):
    old, new, newer = (write(tmp_path / f"{date}", date) for date in (100, 200, 300))
    assert is_fresh([new, newer], [old])
    assert is_fresh([new], [old, tmp_path / "not_there"])
    assert not is_fresh([new, newer], [old, new])
    assert not is_fresh([newer, tmp_path / "not_there"], [old])


def test_inputs_of_a_decoding(tmp_path):
    inputs = decoding_inputs(tmp_path / "exp", "a.pth", tmp_path / "decode.yaml", tmp_path / "data")
    for name in ("exp/config.yaml", "exp/a.pth", "decode.yaml", "data/wav.scp", "data/segments", "data/text"):
        assert tmp_path / name in inputs
