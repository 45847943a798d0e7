from espnet2_kd.asr.freshness import decoding_made_from, is_done, made_from, note_done


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_outputs_must_all_be_there_and_be_of_the_same_content(tmp_path):
    source, outputs = write(tmp_path / "source", "a"), [write(tmp_path / f"out/{n}", "") for n in range(2)]
    key = made_from([source])
    assert not is_done(outputs, key)
    note_done(outputs, key)
    assert is_done(outputs, key)
    write(source, "a")  # another date
    assert is_done(outputs, made_from([source]))
    assert not is_done(outputs, made_from([source], beam=2))
    assert not is_done(outputs, made_from([source, tmp_path / "not_there"]))
    assert not is_done(outputs, made_from([write(source, "b")]))
    outputs[1].unlink()
    assert not is_done(outputs, key)


def test_what_decides_a_decoding(tmp_path):
    exp, data, config = tmp_path / "exp", tmp_path / "data", tmp_path / "decode.yaml"
    keys = {decoding_made_from(exp, "a.pth", config, data)}
    for name in (
        *("exp/config.yaml", "exp/a.pth", "decode.yaml"),
        *("data/wav.scp", "data/segments", "data/text", "data/audio_sum"),
    ):
        write(tmp_path / name, name)
        key = decoding_made_from(exp, "a.pth", config, data)
        assert key not in keys
        keys.add(key)
    assert decoding_made_from(exp, "a.pth", config, data, threads=2) not in keys
    assert decoding_made_from(tmp_path / "user/one", "a.pth", config, data) != decoding_made_from(
        tmp_path / "user/other", "a.pth", config, data
    )
