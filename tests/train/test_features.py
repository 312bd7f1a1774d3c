"""What users do with TRL's trainer, done with ours, under sft, dft and target-sft.

parity.py, test_students.py and their like hold numbers; here it is that each feature trains, evaluates and saves.
"""

import math

import pytest
import tiny_models
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftModel, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from train import parity
from transformers import DataCollatorForSeq2Seq, TrainerCallback

from qtarget.train import TargetSFTConfig, TargetSFTTrainer

METHODS = ("sft", "dft", "target-sft")
TURNS = [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3 w4"}]
TOOLS = [{"type": "function", "function": {"name": "w5", "description": "w6", "parameters": {"type": "object"}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "w5"}}]}
TOOL_TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{{ greeting or '' }} {% for m in messages %}"
    "{{ '<assistant>' if m.role == 'assistant' else '<user>' }}{{ m.content }}"
    "{% for call in m.tool_calls or [] %} {{ call.function.name }}{% endfor %}<eos>{% endfor %}"
)


def build(method="sft", *, model=None, tokenizer=None, rows=None, trainer=TargetSFTTrainer, **given):
    names = ("data_collator", "eval_dataset", "peft_config", "formatting_func", "compute_metrics", "callbacks")
    names += ("preprocess_logits_for_metrics", "optimizers")
    own = {name: given.pop(name) for name in names if name in given}
    changes = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.1, **given}
    return trainer(
        tiny_models.tiny_model() if model is None else model,
        TargetSFTConfig(method=method, **parity.common_args(**changes)),
        train_dataset=tiny_models.prompt_completion(6) if rows is None else rows,
        processing_class=tiny_models.tiny_tokenizer() if tokenizer is None else tokenizer,
        teacher=tiny_models.tiny_model(seed=1) if method == "target-sft" else None,
        **own,
    )


def trained(*args, **kwargs):
    """A trainer after two steps, whose weights moved and whose losses are numbers."""
    trainer = build(*args, **kwargs)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    losses = parity.history(trainer)["loss"]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    now = dict(trainer.model.named_parameters())
    moved = {name for name, weight in before.items() if not torch.equal(weight, now[name])}
    assert moved == {name for name, weight in now.items() if weight.requires_grad}
    return trainer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "changes",
    [
        {"packing": True, "max_length": 16, "eval_packing": False},
        {"padding_free": True, "max_length": None},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"neftune_noise_alpha": 5.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_layouts_and_memory(method, changes):
    trainer = trained(method, eval_dataset=tiny_models.prompt_completion(3, 1), **changes)
    assert math.isfinite(trainer.evaluate()["eval_nll"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "tuning",
    [
        LoraConfig(r=2, task_type="CAUSAL_LM"),
        LoraConfig(r=2, task_type="CAUSAL_LM", target_modules="all-linear", use_dora=True),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8),
    ],
    ids=["lora", "dora", "prompt", "p-tuning"],
)
def test_adapters(method, tuning, tmp_path):
    trainer = build(method, peft_config=tuning, output_dir=str(tmp_path))
    trainer.train()
    assert all(math.isfinite(loss) for loss in parity.history(trainer)["loss"])
    trainer.save_model(tmp_path / "adapter")
    again = PeftModel.from_pretrained(tiny_models.tiny_model(), tmp_path / "adapter").eval()
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(again(input_ids=ids).logits, trainer.model.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_with_an_adapter_on_it(method):
    """Only the adapter moves, and with checkpointing too."""
    model = get_peft_model(tiny_models.tiny_model(), LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False))
    trainer = trained(method, model=model, gradient_checkpointing=True)
    assert 0 < sum(weight.requires_grad for weight in trainer.model.parameters()) < 40


@pytest.mark.parametrize("method", METHODS)
def test_streams(method):
    rows, held_out = tiny_models.prompt_completion(6), tiny_models.prompt_completion(3, 1)
    trainer = trained(method, rows=rows.to_iterable_dataset(), eval_dataset=held_out.to_iterable_dataset())
    assert math.isfinite(trainer.evaluate()["eval_nll"])


@pytest.mark.parametrize("method", METHODS[:1])
def test_a_function_that_formats_rows(method):
    rows = Dataset.from_list([{"question": "w1 w2", "answer": "w3 w4"}] * 4)
    trainer = trained(method, rows=rows, formatting_func=lambda row: f"{row['question']} {row['answer']}")
    ids = trainer.train_dataset[0]["input_ids"]
    assert trainer.processing_class.convert_ids_to_tokens(ids) == ["w1", "w2", "w3", "w4", "<eos>"]


def conversational(**columns):
    return Dataset.from_list([{"messages": TURNS, **columns}] * 4)


@pytest.mark.parametrize("method", METHODS[2:])
def test_tools_and_what_a_template_is_told(method):
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.chat_template = TOOL_TEMPLATE
    rows = conversational(tools=TOOLS, chat_template_kwargs={"greeting": "w9"})
    trainer = trained(method, rows=rows, tokenizer=tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(trainer.train_dataset[0]["input_ids"])
    assert tokens[:2] == ["w5", "w9"]
    called = Dataset.from_list([{"messages": [TURNS[0], CALL, {"role": "tool", "content": "w7"}, TURNS[1]]}] * 4)
    trainer = trained(method, rows=called, tokenizer=tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(trainer.train_dataset[0]["input_ids"])
    assert tokens.count("w5") == 1
    assert "w7" in tokens


@pytest.mark.parametrize("method", METHODS)
def test_metrics_of_the_users_own(method):
    seen = {}

    def accuracy(prediction):
        seen["shape"] = prediction.predictions.shape
        return {"accuracy": (prediction.predictions[:, :-1] == prediction.label_ids[:, 1:]).mean()}

    trainer = build(
        method,
        eval_dataset=tiny_models.prompt_completion(3, 1),
        compute_metrics=accuracy,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="accuracy",
        per_device_eval_batch_size=2,
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics.keys() >= {"eval_accuracy", "eval_loss", "eval_nll"}
    assert seen["shape"][0] == 3
    assert trainer.predict(trainer.eval_dataset).predictions.shape[0] == 3


@pytest.mark.parametrize("method", METHODS[1:2])
def test_several_sets_are_evaluated_by_name(method):
    held_out = DatasetDict(near=tiny_models.prompt_completion(3, 1), far=tiny_models.prompt_completion(2, 2))
    trainer = trained(method, eval_dataset=dict(held_out), eval_strategy="steps", eval_steps=2)
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert logged >= {"eval_near_nll", "eval_far_nll", "eval_near_loss", "eval_far_trust"}


@pytest.mark.parametrize("method", METHODS[1:])
def test_collators_of_the_users_own(method):
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.padding_side = "left"
    collator = DataCollatorForSeq2Seq(tokenizer)
    rows = tiny_models.token_rows(6, weights=True)
    left = trained(method, rows=rows, data_collator=collator, tokenizer=tokenizer)
    right = trained(method, rows=rows)
    assert parity.history(left)["loss"] == pytest.approx(parity.history(right)["loss"], rel=1e-4)


def test_optimisers_schedules_and_callbacks_of_the_users_own():
    class Steps(TrainerCallback):
        count = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.count += 1

    model, steps = tiny_models.tiny_model(), Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=100)
    trainer = trained(model=model, optimizers=(optimizer, schedule), callbacks=[steps])
    assert steps.count == 2
    assert trainer.state.log_history[0]["learning_rate"] == pytest.approx(0.15)


def test_a_model_given_as_a_path_and_saved(tmp_path):
    """With its name and its tags on the card."""
    tiny_models.tiny_model().save_pretrained(tmp_path / "model")
    trainer = trained(model=str(tmp_path / "model"), output_dir=str(tmp_path / "out"))
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all(tag in card for tag in ("- trl", "- sft", "- qtarget"))
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {f.name for f in (tmp_path / "out").iterdir()}


def test_bfloat16_and_frozen_parts():
    model = tiny_models.tiny_model().bfloat16()
    model.get_input_embeddings().requires_grad_(False)
    trained(model=model, learning_rate=1.0)


def test_prompt_tuning_does_not_learn_the_first_token_of_a_row():
    """A teacher, which sees no virtual tokens, says nothing of it; TRL learns it from them."""
    rows = Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in ([5, 6, 7], [8, 9, 10])])
    tuning = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    trainer = build(rows=rows, peft_config=tuning, max_steps=1, learning_rate=0.0)
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]])).logits[:, -3:-1]
    trainer.train()
    own = torch.nn.functional.cross_entropy(logits.reshape(4, -1), torch.tensor([6, 7, 9, 10]))
    assert parity.history(trainer)["loss"][0] == pytest.approx(own.item(), rel=1e-5)
