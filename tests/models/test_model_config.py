"""A model's folder whose configuration is damaged is refused by the name of its file."""

import json

import pytest
import tiny_models

from qtarget.models.loading import causal_lm_from
from qtarget.models.model_config import check_model_config

DAMAGED = {
    "num_hidden_layers": "two",
    "hidden_size": 0,
    "layer_types": ["evil", "evil"],
    "attention_dropout": "x",
    "rms_norm_eps": "1e",
    "tie_word_embeddings": "yes",
    "model_type": ["a"],
    "quantization_config": "x",
    "architectures": "x",
    "rope_parameters": {"rope_type": "evil"},
}


@pytest.mark.failure_case(25)
def test_a_configuration_of_which_no_model_is_made_is_refused_by_its_file(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    check_model_config(str(tmp_path))
    file = tmp_path / "config.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    for name, value in DAMAGED.items():
        file.write_text(json.dumps(whole | {name: value}), encoding="utf-8")
        with pytest.raises(ValueError, match=r"config\.json holds a value of which transformers makes no model"):
            causal_lm_from(str(tmp_path), {})
