"""Law 10 for the divergences: TRL's GKD at lmbda=0 while it exists, and Liger's chunked JSD; values and gradients."""

import json
import random
import re
from pathlib import Path
from typing import Any

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


PAGE = Path(__file__).parents[2] / "docs" / "from-trl-gkd.md"
IN_PLACE = {
    '"Qwen/Qwen2.5-1.5B-Instruct"': '"student"',
    '"Qwen/Qwen2.5-3B-Instruct"': '"teacher"',
    'output_dir="out"': 'output_dir="out", **in_place',
    "args=args": "args=args, processing_class=tokenizer",
    "learning_rate=1e-5": "learning_rate=1e-1",  # or no weight would change by much
}
"""What stands in the page's scripts, and what runs in its place: tiny models in double precision, on the CPU."""


def talks(rows: int) -> list[dict[str, Any]]:
    """Conversations of one turn and of several."""
    rng = random.Random(0)
    turns = [("user", "assistant") * rng.randint(1, 3) for _ in range(rows)]
    return [{"messages": [{"role": role, "content": tiny_models.sentence(rng)} for role in each]} for each in turns]


@pytest.mark.parametrize("beta", BETAS)
def test_the_pages_two_scripts_take_the_same_steps(beta: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    skip_where_trl_cannot_train()
    monkeypatch.chdir(tmp_path)
    for name, seed, width in (("student", 0, 32), ("teacher", 1, 48)):
        tiny_models.tiny_model(seed=seed, width=width).double().save_pretrained(name)
        tiny_models.tiny_tokenizer().save_pretrained(name)  # read as one of the family's own: so it is given, too
    Path("talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talks(24)), encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    theirs, ours = (ran_script(block, beta) for block in blocks)
    assert type(theirs) is gkd.GKDTrainer
    for name in ("loss", "grad_norm"):
        steps = [[each[name] for each in of.state.log_history if "grad_norm" in each] for of in (ours, theirs)]
        assert len(steps[0]) == 4
        assert steps[0] == pytest.approx(steps[1], rel=1e-6)
    for (name, weight), expected in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-8, msg=f"{name}: {{}}".format)


def ran_script(block: str, beta: float) -> Any:
    """The trainer that a script of the page leaves."""
    block = block.replace("lmbda=0.0, beta=0.5", f"lmbda=0.0, beta={beta}").replace('"beta": 0.5', f'"beta": {beta}')
    assert f"beta={beta}" in block or f'"beta": {beta}' in block
    for written, runs in IN_PLACE.items():
        assert written in block
        block = block.replace(written, runs)
    given = common_args(max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    in_place = {key: value for key, value in given.items() if key not in ("output_dir", "learning_rate")}
    namespace: dict[str, Any] = {
        "in_place": {**in_place, "model_init_kwargs": {"dtype": torch.float64}},
        "tokenizer": tiny_models.tiny_tokenizer(),
    }
    exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace["trainer"]
