"""Mistakes in configurations are found without data and without a trained teacher."""

import numpy as np
import pytest

from espnet2_kd.bin import rehearse

TEACHER = """
frontend: default
frontend_conf: {n_fft: 512, hop_length: 160, n_mels: 20, center: false}
encoder: chunk_conformer
encoder_conf: {input_layer: conv2d8, output_size: 16, attention_heads: 2, linear_units: 16, num_blocks: 2, input_channels: 4, cnn_module_kernel: 3}
decoder: transducer
decoder_conf: {rnn_type: lstm, num_layers: 1, hidden_size: 16}
joint_net_conf: {joint_space_size: 16}
optim: adamw
"""
KD = """
base: teacher.yaml
teacher: espnet
kd_terms:
- {name: last, student: encoder.encoders.1, head: projection, loss: distance, weight: 1.0}
"""
STUDENTS = {
    "wide": "base: teacher.yaml\nencoder_conf: {output_size: 32}\n",
    "alone": "base: teacher.yaml\n",
    "taught": KD,
    "by_name": KD + "teacher_conf: {checkpoint: 3epoch.pth}\n",
    "with_start": KD + "teacher_init: [decoder]\n",
    "no_tap": KD.replace("encoders.1", "encodrs.1"),
    "no_loss": KD.replace("distance", "distanse"),
    "no_keyword": "base: teacher.yaml\nencoder_conf: {blocks: 3}\n",
    "no_encoder": "base: teacher.yaml\nencoder: conformr\n",
    "no_option": "base: teacher.yaml\nencodr: conformer\n",
    "no_file": "base: teacher.yaml\ninit_param: [elsewhere/model.pth]\n",
    "later": KD + "teacher_conf: {exp: exp/asr_other_seed1}\n",
    "later_start": "base: teacher.yaml\ninit_param: ['exp/asr_other_seed1/model.pth:encoder:encoder']\n",
    "unlabelled": KD + "unlabelled_ratio: 1.0\n",
    "unlabelled_of_no_use": KD.replace("encoder.encoders.1", "ctc.ctc_lo") + "unlabelled_ratio: 1.0\n",
    "no_part": KD + "teacher_init: [decodr]\n",
}


def mistakes_in(said, folder):
    """Of what was said on the error stream: mistakes by the names of the configs."""
    lines = [line for line in said.splitlines() if line.startswith("mistake in ")]
    return dict(line.removeprefix(f"mistake in {folder}/").split(".yaml: ", 1) for line in lines)


@pytest.fixture
def rehearsed(tmp_path, capfd):
    """Return a function that rehearses students by name, and gives the status and the mistakes by name."""
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")
    for name, text in STUDENTS.items():
        (tmp_path / f"{name}.yaml").write_text(text)

    def call(*names, teacher="teacher", shortest=16000):
        (tmp_path / "speech_shape").write_text(f"ann-1 {shortest}\nann-2 20000\n")
        status = rehearse.main(
            [
                *("--teacher_config", str(tmp_path / f"{teacher}.yaml"), "--teacher_file", "valid.loss.ave.pth"),
                *("--unlabelled_dir", str(tmp_path)),
                *("--shape_files", str(tmp_path / "speech_shape"), "--fs", "16k"),
                *("--configs", *(str(tmp_path / f"{name}.yaml") for name in names)),
                *("--", "--token_type", "char", "--token_list", str(tmp_path / "tokens.txt"), "--output_dir", "unused"),
            ]
        )
        return status, mistakes_in(capfd.readouterr().err, tmp_path)

    return call


def test_what_can_be_trained_passes(rehearsed):
    assert rehearsed("alone", "taught", "by_name", "with_start") == (0, {})


def test_every_mistake_is_named(rehearsed):
    wrong = ("no_tap", "no_loss", "no_option", "no_keyword", "no_encoder", "no_file", "no_part")
    status, mistakes = rehearsed("alone", *wrong[:4], "taught", *wrong[4:])
    assert status == 1 and mistakes.keys() == set(wrong)
    assert "no submodule 'encoder.encodrs.1'" in mistakes["no_tap"] and "did you mean" in mistakes["no_tap"]
    assert "no loss named 'distanse'" in mistakes["no_loss"]
    assert "unexpected keyword argument 'blocks'" in mistakes["no_keyword"]
    assert "--encoder must be one of" in mistakes["no_encoder"]
    assert mistakes["no_option"].endswith(
        "no_option.yaml: no such option: encodr: did you mean encoder, decoder, preencoder?"
    )
    assert mistakes["no_file"] == "--init_param elsewhere/model.pth: no such file"
    assert "no submodule 'decodr'" in mistakes["no_part"] and "did you mean decoder" in mistakes["no_part"]


def test_what_waits_for_another_training_is_no_mistake(rehearsed):
    assert rehearsed("later", "later_start") == (0, {})


def test_speech_without_transcripts(rehearsed):
    assert rehearsed("unlabelled") == (0, {})
    status, mistakes = rehearsed("unlabelled_of_no_use")
    assert status == 1 and "unlabelled speech teaches nothing" in mistakes["unlabelled_of_no_use"]


def test_a_student_may_have_any_name(rehearsed):
    """One called teacher is of another width than the teacher."""
    assert rehearsed("teacher", "taught", teacher="wide") == (0, {})


def test_a_wrong_teacher_is_the_only_mistake(rehearsed):
    status, mistakes = rehearsed("alone", "taught", teacher="no_keyword")
    assert status == 1 and mistakes.keys() == {"no_keyword"}


def test_an_utterance_without_a_frame_is_named(rehearsed):
    """15 feature frames, 14 hops and a window, are the least that is left after three halvings."""
    least = 14 * 160 + 512
    assert rehearsed("alone", shortest=least) == (0, {})
    status, mistakes = rehearsed("alone", shortest=least - 1)
    assert status == 1 and mistakes.keys() == {"teacher"}
    assert mistakes["teacher"].startswith("ann-1 has 0.172 s, of which this encoder makes no frame")
    assert mistakes["teacher"].endswith("--min_wav_duration 0.18")


NONE = """
decoder: speech_transformer
decoder_conf: {size: 16, attention_heads: 2, linear_units: 16, num_blocks: 2}
optim: adam
"""
TAUGHT = """
base: none.yaml
teacher: hf_sentence
kd_terms:
- {name: hidden, student: decoder.layers.1, teacher: encoder.layer.1, match: pad_text, head: projection, per: token, loss: mse, weight: 0.4}
"""
CLASSIFIERS = {
    "none": NONE,
    "taught": TAUGHT,
    "pooled": TAUGHT.replace("pad_text", "token_pool"),
    "answers": "base: none.yaml\nteacher: hf_sentence\nkd_terms:\n"
    "- {name: answers, student: decoder, teacher: classes, loss: output_kl, weight: 1.0}\n",
    "deep": TAUGHT.replace("encoder.layer.1", "encoder.layer.5"),
    "no_match": TAUGHT.replace("pad_text", "pad_txt"),
    "odd_heads": NONE.replace("attention_heads: 2", "attention_heads: 3"),
}


@pytest.fixture
def rehearsed_intents(tmp_path, tiny_bert, capfd):
    """As `rehearsed`, for classifiers on top of the recogniser."""
    (tmp_path / "acoustic.yaml").write_text(TEACHER)
    (tmp_path / "text.yaml").write_text("pooling: mean\n")
    (tmp_path / "slips.yaml").write_text("pooling: middle\n")
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")
    stats = tmp_path / "feats_stats.npz"
    np.savez(stats, count=100.0, sum=np.full(20, -500.0), sum_square=np.full(20, 3400.0))
    (tmp_path / "classes.txt").write_text("lamp=off\nlamp=on\nroom=hall\n")
    for name, text in CLASSIFIERS.items():
        (tmp_path / f"{name}.yaml").write_text(text)

    def call(*names, text="text"):
        status = rehearse.main(
            [
                *("--teacher_config", str(tmp_path / "acoustic.yaml"), "--teacher_file", "valid.loss.ave.pth"),
                *("--classes", str(tmp_path / "classes.txt"), "--slow_rate", "2"),
                *("--text_model", str(tiny_bert), "--text_config", str(tmp_path / f"{text}.yaml")),
                *("--intent_configs", *(str(tmp_path / f"{name}.yaml") for name in names)),
                *(
                    "--",
                    "--normalize",
                    "global_mvn",
                    "--normalize_conf",
                    f"stats_file={stats}",
                    "--token_type",
                    "char",
                    "--token_list",
                    str(tmp_path / "tokens.txt"),
                    "--output_dir",
                    "unused",
                ),
            ]
        )
        return status, mistakes_in(capfd.readouterr().err, tmp_path)

    return call


def test_classifiers_that_can_be_trained_pass(rehearsed_intents):
    assert rehearsed_intents("none", "taught", "pooled", "answers") == (0, {})


def test_mistakes_of_classifiers_are_named(rehearsed_intents):
    wrong = ("deep", "no_match", "odd_heads")
    status, mistakes = rehearsed_intents("none", *wrong)
    assert status == 1 and mistakes.keys() == set(wrong)
    assert "encoder.layer.5" in mistakes["deep"] and "pad_txt" in mistakes["no_match"]
    status, mistakes = rehearsed_intents("none", text="slips")
    assert status == 1 and mistakes.keys() == {"slips"} and "pooling" in mistakes["slips"]
