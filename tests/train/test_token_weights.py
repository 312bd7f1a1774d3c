"""Weights given with the rows reach the loss, through every way rows are cut and laid out."""

import pytest
import tiny_models
import torch
from train import parity

from qtarget.train import TargetSFTConfig, TargetSFTTrainer

LAYOUTS = {
    "padded": {},
    "keep_start": {"max_length": 7},
    "keep_end": {"max_length": 7, "truncation_mode": "keep_end"},
    "bfd": {"packing": True, "max_length": 16},
    "bfd truncating": {"packing": True, "max_length": 7},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 16},
    "padding-free": {"padding_free": True, "max_length": None},
}


def first_loss(data, method="sft", eval_dataset=None, **changes):
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, **parity.common_args(max_steps=1, per_device_train_batch_size=64, **changes)),
        train_dataset=data,
        eval_dataset=eval_dataset,
        processing_class=tiny_models.tiny_tokenizer(),
    )
    trainer.train()
    return parity.history(trainer)["loss"][0], trainer


def as_laid_out(rows, layout):
    """The rows as plain lists, cut or joined by hand."""
    names = ("input_ids", "labels", "token_weight")
    lists = [[row[name] for name in names] for row in rows]
    if layout in ("keep_start", "bfd truncating"):
        return [[values[:7] for values in row] for row in lists]
    if layout == "keep_end":
        return [[values[-7:] for values in row] for row in lists]
    if layout == "wrapped":
        whole = [[value for row in lists for value in row[i]] for i in range(3)]
        return [[values[at : at + 16] for values in whole] for at in range(0, len(whole[0]), 16)]
    return lists


def by_hand(rows):
    """Σ w·(−log p_y) over the number of labels, one row at a time, from the model's own logits."""
    model, total, count = tiny_models.tiny_model().eval(), 0.0, 0
    for ids, labels, weights in rows:
        with torch.no_grad():
            logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        for at in range(1, len(ids)):
            if labels[at] != -100:
                total -= weights[at] * logprobs[at - 1, labels[at]].item()
                count += 1
    return total / count


@pytest.mark.parametrize("layout", LAYOUTS)
def test_given_weights(layout):
    data = tiny_models.token_rows(12, weights=True)
    loss, _ = first_loss(data, **LAYOUTS[layout])
    assert loss == pytest.approx(by_hand(as_laid_out(data, layout)), rel=1e-5)


def spanned(rows=8):
    """Two words of every completion weigh three, given in characters; with the weights these make, by
    hand."""

    def weigh(row):
        words = row["completion"].split()
        start = len(words[0]) + 1
        return {"weight_spans": [[start, start + len(words[1]), 3.0]]}

    return tiny_models.prompt_completion(rows).map(weigh)


def spanned_by_hand(data, unspanned, cut=slice(None)):
    tokenizer, lists = tiny_models.tiny_tokenizer(), []
    for row in data:
        prompt, completion = (tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
        ids = [*prompt, *completion, tokenizer.eos_token_id]
        labels = [-100] * len(prompt) + ids[len(prompt) :]
        weights = [unspanned] * len(ids)
        weights[len(prompt) + 1] = 3.0
        lists.append([values[cut] for values in (ids, labels, weights)])
    return by_hand(lists)


@pytest.mark.parametrize("layout", ["padded", "keep_end", "bfd", "padding-free"])
def test_spans(layout):
    data = spanned()
    cut = slice(-7, None) if layout == "keep_end" else slice(None)
    changes = {**LAYOUTS[layout], **({"max_length": 32} if layout == "bfd" else {})}
    loss, _ = first_loss(data, unspanned_weight=0.5, **changes)
    assert loss == pytest.approx(spanned_by_hand(data, 0.5, cut), rel=1e-5)


def test_spans_of_messages():
    def weigh(row):
        return {"weight_spans": [[[0, 2, 4.0]] if m["role"] == "assistant" else [] for m in row["messages"]]}

    data = tiny_models.messages(6).map(weigh)
    loss, trainer = first_loss(data, assistant_only_loss=True)
    tokenizer = tiny_models.tiny_tokenizer()
    for row in trainer.train_dataset:
        tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
        after = ["<pad>", *tokens[:-1]]
        assert row["token_weight"] == [4.0 if before == "<assistant>" else 1.0 for before in after]
    assert loss == pytest.approx(by_hand(as_laid_out(trainer.train_dataset, "padded")), rel=1e-5)


def test_critical_tokens_are_the_only_ones_cft_learns():
    def mask(row):
        return {"token_weight": [float(weight > 1) for weight in row["token_weight"]]}

    data = tiny_models.token_rows(12, weights=True).map(mask)
    loss, _ = first_loss(data, "cft")
    assert loss == pytest.approx(by_hand(as_laid_out(data, "padded")), rel=1e-5)


def test_iw_sft_takes_weights_in_the_place_of_a_reference():
    data = tiny_models.token_rows(12, weights=True)
    loss, trainer = first_loss(data, "iw-sft")
    assert trainer.reference is None
    assert loss == pytest.approx(by_hand(as_laid_out(data, "padded")), rel=1e-5)


def test_an_evaluation_set_without_weights_counts_every_token_once():
    _, trainer = first_loss(tiny_models.token_rows(12, weights=True), "cft", tiny_models.token_rows(5, seed=3))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_nll"], rel=1e-6)


def test_nll_averages_the_weighted_tokens_in_training_and_all_in_evaluation():
    data = tiny_models.token_rows(12, weights=True)
    kept = [
        [ids, [y if w > 0 else -100 for y, w in zip(labels, weights, strict=True)], [1.0] * len(ids)]
        for ids, labels, weights in as_laid_out(data, "padded")
    ]
    _, trainer = first_loss(data, eval_dataset=data, learning_rate=0.0)
    assert trainer.state.log_history[0]["nll"] == pytest.approx(by_hand(kept), rel=1e-5)
    every = [[ids, labels, [1.0] * len(ids)] for ids, labels, _ in as_laid_out(data, "padded")]
    metrics = trainer.evaluate()
    assert metrics["eval_nll"] == pytest.approx(by_hand(every), rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(by_hand(as_laid_out(data, "padded")), rel=1e-5)


def test_a_stream_of_rows_carries_weights_too():
    data = tiny_models.token_rows(12, weights=True)
    loss, _ = first_loss(data.to_iterable_dataset(), max_length=7)
    assert loss == pytest.approx(by_hand(as_laid_out(data, "keep_start")), rel=1e-5)


def test_unlikelihood_over_rows_is_said_to_be_sft():
    """Rows hold no negative weights: of one that does, the error says where they are taken."""
    with pytest.warns(UserWarning, match="rows hold none: it trains as `method: sft` does"):
        loss, _ = first_loss(spanned(), method="unlikelihood")
    assert loss == pytest.approx(first_loss(spanned(), method="sft")[0])
    data = tiny_models.token_rows(8).map(lambda row: {"token_weight": [-1.0] * len(row["input_ids"])})
    with pytest.raises(ValueError, match=r"numbers >= 0\. Rows hold no weights below 0: .*loss call"):
        first_loss(data, method="unlikelihood")
