"""Answers through transformers: those of `draw`, whatever the batch; adapters, lengths, what is refused."""

from dataclasses import replace

import pytest
import torch
from evaluate.generators.cases import STUDENT, TEACHER, asked, requests
from peft import LoraConfig, get_peft_model

from qtarget import lab
from qtarget.evaluate.generators.huggingface import HuggingFace


def texts(generator, one, wanted=None):
    done = generator.generate(requests(one) if wanted is None else wanted, one.ask)
    return {(c.request.qid, c.request.sample): (c.text, c.finish, c.tokens, c.ids) for c in done}


@pytest.fixture(scope="module")
def student():
    return HuggingFace(str(STUDENT), batch_size=7, device="cpu")


def test_every_request_is_answered_once_and_the_batch_does_not_matter(student):
    one = asked()
    found = texts(student, one)
    assert found.keys() == {(request.qid, request.sample) for request in requests(one)}
    assert texts(replace(student, batch_size=64), one) == found
    assert texts(student, one, requests(one)[5:8]) == {
        key: found[key] for key in [(r.qid, r.sample) for r in requests(one)[5:8]]
    }


def test_samples_of_a_question_differ_and_follow_the_runs_seed(student):
    one = asked()
    found = texts(student, one)
    assert len({found[one.questions[0].qid, sample] for sample in range(4)}) > 1
    assert texts(student, asked(seed=1)) != found


def test_the_end_token_counts_and_is_not_in_the_text(student):
    for text, finish, tokens, ids in texts(student, asked()).values():
        assert tokens == len(ids) == len(text.split()) + (finish == "stop")
    assert {finish for _, finish, _, _ in texts(student, asked(max_new_tokens=3)).values()} == {"length"}


def test_a_completion_ends_where_the_model_has_no_more_positions(student):
    one = asked(1, k=1, max_new_tokens=4000, temperature=3.0)
    (request,) = requests(one)
    long = replace(request, prompt_ids=request.prompt_ids * 11)
    (answer,) = student.generate([long], one.ask)
    assert answer.tokens <= 128 - len(long.prompt_ids)
    with pytest.raises(ValueError, match=rf"question '{request.qid}' has \d+ tokens .* 128 positions"):
        list(student.generate([replace(request, prompt_ids=request.prompt_ids * 30)], one.ask))


def test_a_completion_ends_where_its_own_prompt_has_used_up_the_positions_whatever_stands_beside_it():
    """At a temperature at which hardly any ends by itself. Prompts leave 4 to 117 of the student's 128 positions."""
    one = asked(4, k=2, max_new_tokens=4000, temperature=8.0)
    long = [replace(r, prompt_ids=(r.prompt_ids * 30)[: 124 - 19 * place]) for place, r in enumerate(requests(one)[:6])]
    wanted = long + requests(one)[6:]
    alone = texts(HuggingFace(str(STUDENT), batch_size=1, device="cpu"), one, wanted)
    cut_off = {key: tokens for key, (_, finish, tokens, _) in alone.items() if finish == "length"}
    room = {(r.qid, r.sample): 128 - len(r.prompt_ids) for r in wanted}
    assert len(cut_off) > 2
    assert cut_off == {key: room[key] for key in cut_off}
    for batch_size in (3, 8):
        assert texts(HuggingFace(str(STUDENT), batch_size=batch_size, device="cpu"), one, wanted) == alone


def test_an_adapter_answers_whether_it_is_put_on_the_model_or_named_in_its_place(tmp_path, student):
    network = get_peft_model(
        lab.load(STUDENT), LoraConfig(r=4, target_modules=["q_proj"], base_model_name_or_path=None)
    )
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(weight)
    network.save_pretrained(tmp_path)
    lab.tokenizer(lab.world("weak-operator")).save_pretrained(tmp_path)
    one = asked(3)
    put_on = HuggingFace(str(STUDENT), adapter=str(tmp_path), batch_size=7)
    assert texts(put_on, one) == texts(HuggingFace(str(tmp_path), batch_size=7), one) != texts(student, one)
    assert put_on.fingerprint()["model"]["adapter_weights"] != put_on.fingerprint()["model"]["weights"]


def test_the_fingerprint_tells_models_dtypes_and_batches_apart_without_loading(student):
    found = student.fingerprint()
    assert found["generation"] | {"dtype": "float32", "device": "cpu", "batch_size": 7} == found["generation"]
    others = [
        HuggingFace(str(TEACHER), batch_size=7, device="cpu"),
        replace(student, dtype="bfloat16"),
        replace(student, batch_size=8),
    ]
    assert all(other.fingerprint() != found for other in others)
    assert "network" not in vars(others[0])
    assert student.fingerprint() == replace(student).fingerprint()


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--batch-size 1"):
        HuggingFace(str(STUDENT), batch_size=0)
    with pytest.raises(ValueError, match="--dtype float32"):
        HuggingFace(str(STUDENT), dtype="float31")
    with pytest.raises(ValueError, match="holds no adapter"):
        HuggingFace(str(STUDENT), adapter=str(tmp_path)).fingerprint()


def test_the_output_layer_sees_rows_without_gaps_so_that_its_frozen_weight_is_not_copied_for_each():
    generator, one = HuggingFace(str(STUDENT), batch_size=7), asked()
    strides = []
    generator.network.get_output_embeddings().register_forward_hook(lambda *call: strides.append(call[1][0]))
    list(generator.generate(requests(one)[:7], one.ask))
    assert len(strides) > 1
    assert all(hidden.is_contiguous() for hidden in strides)
