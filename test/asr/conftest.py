"""Models that several tests of this room build."""

import pytest
import torch
import yaml

TOKENS = ["<blank>", "<unk>", *"abc", "<sos/eos>"]


@pytest.fixture(scope="session")
def cif_model():
    """Function that builds a random CIF recogniser as a config would, sharpened so that labels give different outputs."""

    def make(seed=0, decoder_conf=None, encoder_conf=None, tokens=TOKENS, **model_conf):
        from espnet2_kd.tasks.asr import KDASRTask

        config = {
            "model": "cif",
            "model_conf": model_conf,
            "frontend": "default",
            "frontend_conf": {"fs": "16k", "n_fft": 512, "hop_length": 160, "center": False},
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
        parser = KDASRTask.get_parser()
        parser.set_defaults(**yaml.safe_load(yaml.safe_dump(config)))
        torch.manual_seed(seed)
        model = KDASRTask.build_model(parser.parse_args(["--output_dir", "none"])).eval()
        with torch.no_grad():
            model.decoder.output_layer.weight *= 8.0
        return model

    return make
