"""A tiny random text encoder with a tokenizer of bytes."""

import pytest
import torch

WORDS = "please turn switch put the on off up down lamp heat radio now in kitchen could you a bit of light is it"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory):
    """Directory of a random RoBERTa, which counts positions from its padding's id, and reads 20 word pieces."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("encoders") / "tiny-roberta"
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator([WORDS] * 9, 320, min_frequency=1, special_tokens=special)
    tokenizer.save_model(str(folder))
    transformers.RobertaTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"vocab_size": 320, "max_position_embeddings": 22, "type_vocab_size": 1, "pad_token_id": 1}
    transformers.RobertaModel(transformers.RobertaConfig(**size, initializer_range=0.3, **SIZES)).save_pretrained(
        folder
    )
    return folder
