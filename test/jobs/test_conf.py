"""Kaldi's conf grammar, on the files that users have and on ours."""

import pytest

from espnet2_kd.jobs import conf
from espnet2_kd.jobs.request import BACKENDS, UsageError, parse

# What ESPnet2's recipes ship as conf/slurm.conf, and Kaldi documents in queue.pl.
SLURM = """# Default configuration
command sbatch --export=PATH
option name=* --job-name $0
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_threads=1 --cpus-per-task 1
option num_nodes=* --nodes $0
default gpu=0
option gpu=0 -p cpu
option gpu=* -p gpu --gres=gpu:$0 -c $0  # Recommend allocating more CPU than, or equal to the number of GPU
# note: the --max-jobs-run option is supported as a special case
"""
QUEUE = """command qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64*
option mem=* -l mem_free=$0,ram_free=$0
option mem=0          # Do not add anything to qsub_opts
option num_threads=* -pe smp $0
option num_threads=1  # Do not add anything to qsub_opts
option max_jobs_run=* -tc $0
default gpu=0
option gpu=0
option gpu=* -l 'gpu=$0,name="a b"' -q g.q
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "x.conf"
        path.write_text(text)
        return conf.read(path)

    return write


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (SLURM, "", "sbatch --export=PATH -p cpu"),
        (SLURM, "--mem 4G --num-threads 1", "sbatch --export=PATH -p cpu --mem-per-cpu 4G --cpus-per-task 1"),
        (SLURM, "--gpu 2 --num-threads 8", "sbatch --export=PATH -p gpu --gres=gpu:2 -c 2 --cpus-per-task 8"),
        (SLURM, "--mem 0 --num-nodes 2 --time 4:00:00", "sbatch --export=PATH -p cpu --nodes 2 --time 4:00:00"),
        (QUEUE, "--num-threads 1 --max-jobs-run 4", "qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64*"),
        (QUEUE, "--mem 2G", "qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64* -l mem_free=2G,ram_free=2G"),
    ],
)
def test_options_become_the_schedulers(written, text, options, expected):
    """By hand, as queue.pl's documentation says; --max-jobs-run is the driver's own affair."""
    request = parse(["--backend", "slurm", *options.split(), "x.log", "true"])
    found = written(text).words(request.resources)
    head = len(written(text).command)
    assert found[:head] == expected.split()[:head]
    assert sorted(found[head:]) == sorted(expected.split()[head:])


def test_quotes_hold_words_together(written):
    assert written(QUEUE).words({"gpu": "1"})[-4:] == ["-l", 'gpu=1,name="a b"', "-q", "g.q"]


def test_a_value_is_never_a_word_of_its_own_making(written):
    assert written(SLURM).words({"time": "1 --uid 0"})[-1] == "1 --uid 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command sbatch\noptions mem=*\n", r"x.conf:2: 'options mem=\*': expected `command"),
        ("command sbatch 'x\n", "x.conf:1: .*No closing quotation"),
        ("option mem=*\n", "x.conf: no line `command ...`"),
    ],
)
def test_a_wrong_line_is_named(written, text, message):
    with pytest.raises(UsageError, match=message):
        written(text)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "x.conf").write_bytes(b"command sbatch\n\xff")
    with pytest.raises(UsageError, match="x.conf: cannot be read .*utf-8"):
        conf.read(tmp_path / "x.conf")


def test_an_option_without_a_line_is_named_with_its_neighbour(written):
    with pytest.raises(UsageError, match=r"--memory 4G: .*x.conf has no line `option memory=.*did you mean --mem"):
        written("command x\noption mem=* -m $0\n").words({"memory": "4G"})
    with pytest.raises(UsageError, match="--gpu 3: .* knows gpu=0, 1 only"):
        written("command x\noption gpu=0\noption gpu=1 -g\n").words({"gpu": "3"})


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "local"])
def test_the_templates_files_know_what_recipes_ask_for(backend):
    read = conf.read(conf.find(backend, None))
    assert read.words({"mem": "4G", "time": "1:00:00", "gpu": "1", "num_threads": "4"})


def test_a_recipes_own_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/pbs.conf").write_text("command qsub\n")
    assert conf.find("pbs", None).resolve() == tmp_path / "conf/pbs.conf"
    assert conf.find("sge", None) == conf.DEFAULTS / "sge.conf"
    with pytest.raises(UsageError, match="no such file"):
        conf.find("pbs", "conf/none.conf")
