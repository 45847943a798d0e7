"""A student for a tiny experiment to teach."""

import pytest
import yaml


@pytest.fixture(scope="session")
def write_student():
    """Function (path, teacher's directory, options of its config) -> path of a streaming student without randomness."""
    from espnet2_kd.tasks.asr import KDASRTask

    known = {action.dest for action in KDASRTask.get_parser()._actions} - {"config"}

    def write(path, teacher, /, **options):  # an option may be called teacher too
        conf = yaml.safe_load((teacher / "config.yaml").read_text())
        conf["normalize_conf"] = {"stats_file": str(teacher.parents[1] / "exp/asr_stats/train/feats_stats.npz")}
        conf["encoder_conf"] |= {"chunk_ms": 80, "left_ms": 160, "conv_norm": "layer_norm"}
        conf["encoder_conf"] |= {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
        conf["decoder_conf"] |= {"dropout": 0.0, "dropout_embed": 0.0}
        conf |= {"teacher": "espnet", "teacher_conf": {"exp": str(teacher)}, **options}
        path.write_text(yaml.safe_dump({key: value for key, value in conf.items() if key in known}))
        return path

    return write
