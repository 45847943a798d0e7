"""Fixtures that more than one room needs."""

import argparse
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

LETTERS = "abcdefghijklmnop"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
WORDS = "please turn switch put the on off up down lamp heat radio now in kitchen could you a bit of light is it"
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CIF_TOKENS = ["<blank>", "<unk>", *"abc", "<sos/eos>"]
STUDENT = {"chunk_ms": 80, "left_ms": 160}
FRONTEND = {"fs": "16k", "n_fft": 512, "hop_length": 160, "center": False}
ENCODER = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}


def is_alive(pid):
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes between opening and reading
        return False


@pytest.fixture(scope="session")
def all_end():
    """Function: whether all processes have ended, or do so shortly, as a killed one goes when the system finds the time."""

    def ended(pids, seconds=20.0):
        deadline = time.monotonic() + seconds
        while any(is_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return ended


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory):
    """Function that makes `recipe/exp/<name>` with a random but talkative transducer, as training would leave it.

    Keywords: encoder_conf (a streaming one by default), ctc_weight, token_type (char or word), seed.
    """
    import espnet2_kd.register  # noqa: F401, I001  (before espnet2: it makes that import quick)
    from espnet2.tasks.asr import ASRTask

    recipe = tmp_path_factory.mktemp("recipe")
    stats = recipe / "exp/asr_stats/train/feats_stats.npz"
    stats.parent.mkdir(parents=True)
    np.savez(stats, count=100.0, sum=np.full(80, -500.0), sum_square=np.full(80, 3400.0))
    default = yaml.safe_dump(ASRTask.get_default_config())

    def make(name, encoder_conf=None, ctc_weight=0.3, token_type="char", seed=1):
        inner = ["<space>", *LETTERS] if token_type == "char" else [f"{a}{b}" for a in LETTERS for b in "aeiou"]
        config = {
            **yaml.safe_load(default),
            "token_list": ["<blank>", "<unk>", *inner, "<sos/eos>"],
            "token_type": token_type,
            "input_size": None,
            "frontend": "default",
            "frontend_conf": FRONTEND,
            "specaug": None,
            "normalize": "global_mvn",
            "normalize_conf": {"stats_file": "exp/asr_stats/train/feats_stats.npz"},
            "encoder": "chunk_conformer",
            "encoder_conf": ENCODER | (STUDENT if encoder_conf is None else encoder_conf),
            "decoder": "transducer",
            "decoder_conf": {"hidden_size": 12},
            "joint_net_conf": {"joint_space_size": 10},
            "model_conf": {"ctc_weight": ctc_weight},
        }
        args = argparse.Namespace(**yaml.safe_load(yaml.safe_dump(config)))
        args.normalize_conf["stats_file"] = str(stats)
        torch.manual_seed(seed)
        model = ASRTask.build_model(args)
        with torch.no_grad():
            model.joint_network.lin_enc.weight *= 6.0
            model.joint_network.lin_dec.weight *= 3.0
            model.joint_network.lin_out.weight *= 12.0
            model.joint_network.lin_out.bias[0] += 9.0
        exp = recipe / "exp" / name
        exp.mkdir()
        (exp / "config.yaml").write_text(yaml.safe_dump(config))
        torch.save(model.state_dict(), exp / "valid.loss_transducer.ave.pth")
        return exp

    return make


@pytest.fixture(scope="session")
def make_bert(tmp_path_factory):
    """Function: word pieces, after [PAD] [UNK] [CLS] [SEP] [MASK] -> directory of a random BERT; keywords are its configuration."""
    transformers = pytest.importorskip("transformers")

    def make(words, do_lower_case=True, **config):
        folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
        folder.mkdir()
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
        tokenizer = transformers.BertTokenizerFast.from_pretrained(folder, do_lower_case=do_lower_case)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=len(pieces), **BERT | config)
        transformers.BertModel(config).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bert(make_bert):
    """Directory of a random BERT that knows a few words, and letters, and reads 16 word pieces."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 16}
    return make_bert([*WORDS.split(), *ALPHABET, *(f"##{x}" for x in ALPHABET)], initializer_range=0.3, **sizes)


def random_cif(config, seed):
    """A random CIF recogniser, sharpened so that labels give different outputs, and its options."""
    from espnet2_kd.tasks.asr import KDASRTask

    parser = KDASRTask.get_parser()
    parser.set_defaults(**yaml.safe_load(yaml.safe_dump(config)))
    args = parser.parse_args(["--output_dir", "none"])
    torch.manual_seed(seed)
    model = KDASRTask.build_model(args)
    with torch.no_grad():
        model.decoder.output_layer.weight *= 8.0
    return model, args


@pytest.fixture(scope="session")
def cif_model():
    """Function that builds a random CIF recogniser as a config would, sharpened so that labels give different outputs."""

    def make(seed=0, decoder_conf=None, encoder_conf=None, tokens=CIF_TOKENS, **model_conf):
        config = {
            "model": "cif",
            "model_conf": model_conf,
            "frontend": "default",
            "frontend_conf": FRONTEND,
            "normalize": "utterance_mvn",
            "normalize_conf": {},
            "encoder": "chunk_conformer",
            "encoder_conf": {
                "output_size": 12,
                "attention_heads": 2,
                "linear_units": 16,
                "num_blocks": 1,
                "cnn_module_kernel": 5,
                **({"chunk_ms": 80, "left_ms": 160} if encoder_conf is None else encoder_conf),
            },
            "decoder": "cif",
            "decoder_conf": {"attention_heads": 2, "linear_units": 16, **(decoder_conf or {})},
            "token_list": list(tokens),
            "token_type": "char",
        }
        return random_cif(config, seed)[0].eval()

    return make


@pytest.fixture(scope="session")
def make_cif_experiment(tmp_path_factory):
    """Function that makes `recipe/exp/<name>` with a random CIF recogniser that fires often, as training would leave it.

    Keywords: cif_conf, decoder_conf, token_list, token_type, seed, and any option of the training program.
    """
    recipe = tmp_path_factory.mktemp("cif_recipe")

    def make(name, cif_conf=None, decoder_conf=None, seed=1, token_type="char", token_list=None, **more):
        config = {
            "model": "cif",
            "model_conf": {"cif_conf": cif_conf or {}},
            "frontend": "default",
            "frontend_conf": FRONTEND,
            "normalize": None,
            "encoder": "chunk_conformer",
            "encoder_conf": ENCODER | STUDENT,
            "decoder": "cif",
            "decoder_conf": {"attention_heads": 2, "linear_units": 16, **(decoder_conf or {})},
            "token_list": token_list or ["<blank>", "<unk>", "<space>", *LETTERS, "<sos/eos>"],
            "token_type": token_type,
            "best_model_criterion": [["valid", "acc", "max"]],
            **more,
        }
        model, args = random_cif(config, seed)
        with torch.no_grad():
            model.cif.linear.weight *= 4.0
        exp = recipe / "exp" / name
        exp.mkdir(parents=True)
        (exp / "config.yaml").write_text(yaml.safe_dump({**vars(args), "token_list": list(args.token_list)}))
        torch.save(model.state_dict(), exp / "valid.acc.ave.pth")
        return exp

    return make


@pytest.fixture(scope="session")
def cif_experiment(make_cif_experiment):
    """One of them."""
    return make_cif_experiment("asr_cif")


@pytest.fixture(scope="session")
def make_classifier():
    """Function that makes a folder an experiment with a random classifier of intents on the frames of a recogniser."""
    from espnet2_kd.tasks.intent import KDIntentTask

    def make(exp, ears, tokens, checkpoint):
        exp.mkdir(parents=True, exist_ok=True)
        config = {
            "token_list": tokens,
            "acoustic_exp": str(ears),
            "decoder": "speech_transformer",
            "decoder_conf": {"size": 16, "attention_heads": 2, "linear_units": 8, "num_blocks": 2},
            "model_conf": {"slow_rate": 2},
        }
        (exp / "conf.yaml").write_text(yaml.safe_dump(config))
        args = KDIntentTask.get_parser().parse_args(["--config", str(exp / "conf.yaml"), "--output_dir", str(exp)])
        torch.manual_seed(0)
        model = KDIntentTask.build_model(args)
        with torch.no_grad():
            model.decoder.votes.linear.weight *= 30.0
        torch.save(model.state_dict(), exp / checkpoint)
        (exp / "config.yaml").write_text(yaml.safe_dump(vars(args)))

    return make
