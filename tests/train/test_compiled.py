"""`torch.compile` over a model with the loss in its forward, and the trainer's `torch_compile`."""

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from train import parity

import qtarget as qt
from qtarget.teacher import head_of
from qtarget.train.forward import TargetCall, add_target_loss

LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def _batch(length: int = 12) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (2, length), generator=torch.Generator().manual_seed(length))
    labels = ids.clone()
    labels[:, :3] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _gradients(run, model, batch, call) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one step, and the gradient of every parameter that has one."""
    model.zero_grad()
    loss = run(model, batch, call)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _step(model, batch, call) -> torch.Tensor:
    out = model(**batch, q_target=call)
    return out.loss + 0 * out.diagnostics["trust"].nan_to_num().sum()


def _teacher(batch) -> qt.Dense:
    teacher = tiny_models.tiny_model(seed=1, width=48)
    with torch.no_grad():
        return qt.Dense(teacher.base_model(batch["input_ids"]).last_hidden_state, head_of(teacher))


@pytest.mark.parametrize("adapters", [False, True], ids=["tied", "lora"])
def test_forward_loss_and_backward_are_one_graph(adapters: bool):
    model, batch = tiny_models.tiny_model(tied=True), _batch()
    if adapters:
        model = get_peft_model(model, LORA)
    add_target_loss(model.get_base_model() if adapters else model)
    call = TargetCall(qt.method("target-sft"), (_teacher(batch),))
    compiled = torch.compile(_step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(_gradients(compiled, model, batch, call), _gradients(_step, model, batch, call))


def test_a_student_that_is_its_own_reference_breaks_the_graph_once():
    model, batch = get_peft_model(tiny_models.tiny_model(), LORA), _batch()
    add_target_loss(model.get_base_model())
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    call = TargetCall(qt.method("sft-kl"), adapter_off=model.disable_adapter)
    assert torch._dynamo.explain(_step)(model, batch, call).graph_break_count == 1
    torch._dynamo.reset()
    compiled = torch.compile(_step, backend="aot_eager")
    torch.testing.assert_close(_gradients(compiled, model, batch, call), _gradients(_step, model, batch, call))


def test_a_compiled_run_is_the_plain_run_without_a_graph_break():
    """Batches of several lengths: one graph for the first, one for all the others."""
    compiled = parity.run("target-sft", max_steps=4, torch_compile=True, torch_compile_backend="aot_eager")
    counters = torch._dynamo.utils.counters
    assert counters["aot_autograd"]["ok"] == counters["frames"]["total"] == 2
    assert not counters["graph_break"]
    whole = parity.history(parity.run("target-sft", max_steps=4))
    assert max(parity.deviation(parity.history(compiled), whole)) < 1e-5
