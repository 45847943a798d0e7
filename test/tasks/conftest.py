"""A student for a tiny experiment to teach."""

import numpy as np
import pytest
import soundfile
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


@pytest.fixture(scope="session")
def training_tables(tmp_path_factory):
    """Folder with tables of 12 labelled utterances in `labelled` and 10 others in `more`."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in (("labelled", 12), ("more", 10)):
        lines = {"wav.scp": [], "text": [], "shape": [], "text_shape": []}
        (folder / name).mkdir()
        for n in range(count):
            utt, length = f"{name}{n}", int(rng.integers(4000, 6000))
            soundfile.write(folder / name / f"{n}.wav", rng.standard_normal(length) * 0.1, 16000)
            lines["wav.scp"].append(f"{utt} {folder / name / f'{n}.wav'}")
            lines["text"].append(f"{utt} abc")
            lines["shape"].append(f"{utt} {length}")
            lines["text_shape"].append(f"{utt} 3,20")
        for file, content in lines.items():
            (folder / name / file).write_text("\n".join(content) + "\n")
    soundfile.write(folder / "noise.wav", rng.standard_normal(3000) * 0.1, 16000)
    (folder / "noise.scp").write_text(f"noise {folder / 'noise.wav'}\n")
    return folder


@pytest.fixture(scope="session")
def training_options():
    """Function (folder of tables, more options) -> options of a training in which everything that draws random numbers is on."""

    def options(data, **more):
        options = {
            **{
                "specaug": "specaug",
                "specaug_conf": {
                    "apply_time_warp": True,
                    "apply_freq_mask": True,
                    "apply_time_mask": True,
                    "time_mask_width_range": [0, 5],
                },
            },
            **{
                "optim": "adam",
                "optim_conf": {"lr": 0.01},
                "scheduler": "warmuplr",
                "scheduler_conf": {"warmup_steps": 10},
            },
            **{"batch_type": "unsorted", "batch_size": 2, "log_interval": 1, "num_att_plot": 0},
            **{
                "use_tensorboard": False,
                "use_matplotlib": False,
                "ngpu": 0,
                "resume": True,
                "kd_terms": [{"name": "l2", "student": "encoder.encoders.1", "loss": "mse", "weight": 0.5}],
            },
            **{"use_preprocessor": True, "best_model_criterion": [["valid", "loss", "min"]], "keep_nbest_models": 2},
            **more,
        }
        for part in ("train", "valid"):
            options[f"{part}_data_path_and_name_and_type"] = [
                [f"{data}/labelled/wav.scp", "speech", "sound"],
                [f"{data}/labelled/text", "text", "text"],
            ]
            options[f"{part}_shape_file"] = [f"{data}/labelled/shape", f"{data}/labelled/text_shape"]
        if more.get("unlabelled_ratio"):
            options["unlabelled_data_path_and_name_and_type"] = [[f"{data}/more/wav.scp", "speech", "sound"]]
            options["unlabelled_shape_file"] = [f"{data}/more/shape"]
        return options

    return options
