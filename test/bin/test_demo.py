"""The command of the live demo; what it serves is tested in test/live."""

import socket
import subprocess
import sys

import pytest

from espnet2_kd.bin import demo


def test_help_needs_no_torch():
    code = (
        "import sys; from espnet2_kd.bin import demo\n"
        "try:\n    demo.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'espnet2', 'numpy', 'aiohttp'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--model" in done.stdout


@pytest.mark.parametrize(
    "options, fault",
    [
        ([], "--model"),
        (["--model", "a", "b", "--name", "one"], "--name: 1 given for 2 models"),
        (["--model", "a", "--model_file", "b", "c"], "--model_file: 2 given for 1 models"),
        (["--model", "a", "--max_clients", "0"], "--max_clients must be positive"),
        (["--model", "a", "--max_seconds", "nan"], "--max_seconds must be positive"),
        (["--model", "a", "--port", "70000"], "--port"),
    ],
)
def test_options_that_make_no_sense(options, fault, capsys):
    with pytest.raises(SystemExit):
        demo.main(options)
    assert fault in capsys.readouterr().err


def test_values_for_all_models_or_each():
    assert demo.spread([], 2) == [None, None]
    assert demo.spread(["x"], 2) == ["x", "x"]
    assert demo.spread(["-", "x"], 2) == [None, "x"]


def test_models_that_cannot_be_used(tiny_experiment, tmp_path, capsys):
    exp = tiny_experiment("demo_command")
    (tmp_path / "decode.yaml").write_text("beam: 4\n")
    for options, fault in (
        (["--model", str(tmp_path / "none" / "x")], "no such file or directory: give an experiment directory"),
        (["--model", str(tmp_path)], "no averaged or best checkpoint"),
        (["--model", str(exp), "--model_file", "9epoch.pth"], "9epoch.pth: not found"),
        (["--model", str(exp), "--config", str(tmp_path / "decode.yaml")], "did you mean beam_size?"),
    ):
        assert demo.main([*options, "--port", "0"]) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if "Warning" not in line]
        assert fault in error[-1]


def test_a_port_that_is_taken(tiny_experiment, capsys):
    exp = tiny_experiment("demo_port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.main(["--model", str(exp), "--port", str(port)]) == 1
    assert f"--port {port}: " in capsys.readouterr().err.splitlines()[-1]


def test_others_may_listen_in_on_other_addresses(tiny_experiment, capsys, monkeypatch):
    async def nothing(server, host, port, ready):
        ready("http://there/")

    monkeypatch.setattr("espnet2_kd.live.server.serve", nothing)
    exp = str(tiny_experiment("demo_host"))
    assert demo.main(["--model", exp, "--host", "0.0.0.0"]) == 0
    shown = capsys.readouterr()
    assert "without encryption" in shown.err and "open http://there/" in shown.out
    assert demo.main(["--model", exp]) == 0
    assert "encryption" not in capsys.readouterr().err
