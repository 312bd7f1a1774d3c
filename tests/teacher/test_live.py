"""A live model says, at each position, what it expects next."""

import copy
import types

import pytest
import tiny_models
import torch

from qtarget.target.source_logits import dense_logits
from qtarget.teacher import LiveModel, frozen_copy, load_live_model

CPU = torch.device("cpu")
IDS = torch.randint(5, tiny_models.VOCAB, (2, 8), generator=torch.Generator().manual_seed(0))


def test_evidence_is_the_models_own_distribution():
    model = tiny_models.tiny_model().eval()
    evidence = LiveModel(model).evidence({"input_ids": IDS})
    torch.testing.assert_close(dense_logits(evidence), model(input_ids=IDS).logits)
    assert not evidence.hidden.requires_grad


def test_packed_documents_do_not_see_one_another():
    """The same batch through a cache would let the second document look at the first."""
    model = tiny_models.tiny_model().eval()
    packed = {"input_ids": IDS.reshape(1, -1), "position_ids": torch.arange(8).repeat(2)[None]}
    together = LiveModel(model).evidence(packed).hidden.reshape(2, 8, -1)
    torch.testing.assert_close(together, LiveModel(model).evidence({"input_ids": IDS}).hidden)


def test_a_path_is_loaded_frozen_and_in_eval_mode(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    model = load_live_model(str(tmp_path), "teacher", device=CPU, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_from_pretrained_takes_further_arguments(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    model = load_live_model(str(tmp_path), "teacher", device=CPU, init_kwargs={"attn_implementation": "eager"})
    assert model.config._attn_implementation == "eager"


def test_a_copy_shares_nothing_with_a_model_whose_forward_was_replaced():
    model = tiny_models.tiny_model()
    original = copy.deepcopy(model)
    model.forward = types.MethodType(lambda self, *a, **k: pytest.fail("the model's own forward ran"), model)
    twin = frozen_copy(model, CPU)
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    torch.testing.assert_close(twin(input_ids=IDS).logits, original.eval()(input_ids=IDS).logits)
    assert frozen_copy(twin, CPU, "bfloat16").dtype == torch.bfloat16


def test_a_model_without_its_weights_is_not_copied():
    """What a rank has before FSDP hands the weights over."""
    with pytest.raises(ValueError, match="Write `reference: path/or/hub-name` of the initial model"):
        frozen_copy(tiny_models.tiny_model().to("meta"), CPU)
