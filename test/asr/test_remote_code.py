"""Configurations that ask for the code of a model's repository."""

import json

import pytest

from espnet2_kd.asr.remote_code import require_no_remote_code
from espnet2_kd.kd.registry import ConfigError


def test_it_is_refused_at_any_depth_and_in_a_file_that_is_handed_on(tmp_path):
    hidden = tmp_path / "hidden.json"
    hidden.write_text(json.dumps({"trust_remote_code": 1}))
    for conf in (
        {"trust_remote_code": True},
        {"decoder_conf": {"overriding_architecture_config": {"trust_remote_code": True}}},
        {"encoders": [{"conf": [{"trust_remote_code": "yes"}]}]},
        {"decoder_conf": {"overriding_architecture_config": str(hidden)}},
    ):
        with pytest.raises(ConfigError, match="config.yaml: trust_remote_code would run code"):
            require_no_remote_code(conf, "config.yaml")
    require_no_remote_code({"trust_remote_code": False, "decoder_conf": {"a": [1, None, "x"]}}, "config.yaml")
