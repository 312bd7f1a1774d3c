"""Law 10 for the divergences: TRL's GKD at lmbda=0 while it exists, and Liger's chunked JSD; values and gradients."""

import pytest
import tiny_models
import torch
from laws.cases import Case
from laws.oracle import Row
from train.parity import common_args, skip_where_trl_cannot_train

import qtarget as qt

gkd = pytest.importorskip("trl.experimental.gkd", reason="this TRL has no GKD")
BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("beta", BETAS)
def test_jsd_is_trls_on_logits(beta: float):
    case = Case(Row("jsd", {"beta": beta}))
    ours, theirs = (case.logits.clone().requires_grad_() for _ in range(2))
    out = qt.q_target_loss(ours, case.labels, case.method, **case.logit_evidence)
    out.loss.backward()
    teacher, labels = case.logit_evidence["teacher"][None], case.labels[None]
    stated = gkd.GKDTrainer.generalized_jsd_loss(theirs[None], teacher, labels, beta=beta)
    stated.backward()
    torch.testing.assert_close(out.loss, stated, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", BETAS)
def test_a_step_of_a_model_is_that_of_trls_trainer_at_lmbda_0(beta: float):
    """TRL's own trainer, collator and models; ours gets the same batch."""
    skip_where_trl_cannot_train()
    student, teacher = tiny_models.tiny_model().double(), tiny_models.tiny_model(seed=1, width=48).double()
    rows = [
        [{"role": "user", "content": "w1 w2 w3"}, {"role": "assistant", "content": "w4 w5 w6 w7"}],
        [{"role": "user", "content": "w8"}, {"role": "assistant", "content": "w9 w10"}],
    ]
    theirs = gkd.GKDTrainer(
        student,
        teacher,
        gkd.GKDConfig(lmbda=0.0, beta=beta, max_length=32, max_new_tokens=8, **common_args(max_steps=1)),
        train_dataset=tiny_models.Dataset.from_dict({"messages": rows}),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    batch = theirs.data_collator([{"messages": row} for row in rows])
    assert (batch["labels"] == -100).any()
    assert (batch["labels"] != -100).sum() > 6
    loss = theirs.compute_loss(student, batch)
    loss.backward()
    expected = {name: p.grad.clone() for name, p in student.named_parameters()}
    student.zero_grad()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    labels = batch["labels"][:, 1:]
    with torch.no_grad():
        source = qt.Dense(teacher.model(**inputs).last_hidden_state[:, :-1], qt.Head(teacher.lm_head.weight))
    hidden, head = student.model(**inputs).last_hidden_state[:, :-1], qt.Head(student.lm_head.weight)
    out = qt.linear_q_target_loss(hidden, head, labels, qt.method("jsd", beta=beta), teacher=source)
    out.loss.backward()
    torch.testing.assert_close(out.loss, loss, rtol=1e-6, atol=1e-9)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", BETAS)
def test_jsd_is_ligers(beta: float):
    losses = pytest.importorskip("liger_kernel.chunked_loss", reason="Liger is not installed")
    case = Case(Row("jsd", {"beta": beta}))
    teacher, found = case.evidence["teacher"], []
    for is_liger in (False, True):
        hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
        if is_liger:
            liger = losses.LigerFusedLinearJSDLoss(0.0, 1.0, beta, compiled=False, chunk_size=8)
            loss = liger(hidden, weight, teacher.hidden, teacher.head.weight, case.labels)
        else:
            loss = qt.linear_q_target_loss(hidden, qt.Head(weight), case.labels, case.method, teacher=teacher).loss
        loss.backward()
        found.append((loss.detach(), hidden.grad, weight.grad))
    (loss, *gradients), (stated, *expected) = found
    torch.testing.assert_close(loss.float(), stated, rtol=1e-6, atol=1e-6)  # Liger adds losses up in single precision
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
