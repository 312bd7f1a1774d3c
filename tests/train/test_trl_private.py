"""Each thing private in TRL and transformers that the trainer leans on: a release that moves it fails here."""

import ast
import inspect

import pytest
import tiny_models
import torch
from house.package import modules
from train import parity
from transformers import Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer.base_trainer import _BaseTrainer

from qtarget.train.probes import HOOKS, STATE_KINDS
from qtarget.train.trl_preparation import without_cutting
from qtarget.train.trl_private import OpenSFTTrainer

SIGNATURES = {
    (SFTTrainer, "_prepare_dataset"): [
        "self",
        "dataset",
        "processing_class",
        "args",
        "packing",
        "formatting_func",
        "dataset_name",
    ],
    (SFTTrainer, "_set_signature_columns_if_needed"): ["self"],
    (SFTTrainer, "_save_checkpoint"): ["self", "model", "trial"],
    (Trainer, "_load_from_checkpoint"): ["self", "resume_from_checkpoint", "model"],
    (Trainer, "_get_output_dir"): ["self", "trial"],
    (SFTTrainer, "compute_loss"): ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
}


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=[name for _, name in SIGNATURES])
def test_the_hooks_are_where_they_were(owner, name):
    assert list(inspect.signature(getattr(owner, name)).parameters) == SIGNATURES[owner, name]


def test_one_module_alone_leans_on_them():
    """Beside the one that tries them."""
    private = {name for name in (*(hook.name for hook in HOOKS), *STATE_KINDS, "_tr_loss") if name.startswith("_")}
    read = {
        module: {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for module, tree in modules().items()
    }
    leaning = {module for module, names in read.items() if names & private}
    assert leaning == {"qtarget.train.trl_private", "qtarget.train.probes"}


@pytest.fixture(scope="module")
def plain():
    return SFTTrainer(
        tiny_models.tiny_model("mixtral"),
        SFTConfig(**parity.common_args()),
        train_dataset=tiny_models.prompt_completion(4),
        processing_class=tiny_models.tiny_tokenizer(),
    )


def test_preparation_asks_the_hook_and_keeps_other_columns():
    """TRL's preparation goes through `_prepare_dataset`, which leaves text columns beside the tokens."""
    seen = {}

    class Watching(OpenSFTTrainer):
        def prepare_rows(self, dataset, prepare, args, packing, request):
            seen[request.name] = request
            whole = prepare(dataset, without_cutting(args), False)
            assert {"prompt", "completion", "input_ids", "labels"} <= set(whole.column_names)
            assert max(map(len, whole["input_ids"])) > 3
            return prepare(dataset, args, packing)

    data = {"train_dataset": tiny_models.prompt_completion(4), "eval_dataset": tiny_models.prompt_completion(4, 1)}
    config = SFTConfig(**parity.common_args(max_length=3, completion_only_loss=False))
    trainer = Watching(tiny_models.tiny_model(), config, processing_class=tiny_models.tiny_tokenizer(), **data)
    assert max(map(len, trainer.train_dataset["input_ids"])) <= 3
    assert set(seen) == {"train", "eval"}
    assert seen["train"].tokenizer.get_vocab() == tiny_models.tiny_tokenizer().get_vocab()
    assert (seen["train"].chat_template, seen["train"].has_formatter) == (None, False)


def test_columns_reach_the_collator(plain):
    plain._signature_columns = None
    plain._set_signature_columns_if_needed()
    assert set(plain._signature_columns) == {"input_ids", "labels", "seq_lengths"}
    plain._signature_columns = None


def test_the_private_state_is_there(plain):
    assert plain._tokenizer is not None
    assert plain.chat_template is None
    assert not plain._is_vlm
    assert not plain._is_vision_dataset
    assert not plain.padding_free
    assert plain.aux_loss_enabled
    assert plain.router_aux_loss_coef == 0.1
    assert plain.get_tp_size() == 1
    assert isinstance(plain.model_accepts_loss_kwargs, bool)
    assert plain._loss_shifts_labels is True


def test_a_scaled_loss_is_not_divided_again():
    """`loss_is_scaled_for_ga` is read where the loss would be divided by the accumulation steps: by transformers
    since 5.19, by TRL for those before."""
    reader = Trainer.training_step if hasattr(Trainer, "loss_is_scaled_for_ga") else _BaseTrainer.__init__
    assert "loss_is_scaled_for_ga" in inspect.getsource(reader)
    assert "self.current_gradient_accumulation_steps = len(batch_samples)" in inspect.getsource(Trainer._run_epoch)
    assert SFTTrainer.loss_is_scaled_for_ga is None


def test_labels_are_counted_over_the_accumulated_batch(plain):
    """Without the first position of each row, which nothing predicts."""
    labels = torch.tensor([[5, 6, -100], [5, 6, 7]])
    assert plain._get_num_items_in_batch([{"labels": labels}] * 2, torch.device("cpu")) == 6


def test_the_padded_batch_is_laid_out_to_the_right(plain):
    batch = plain.data_collator([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert batch["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
