"""Drawing completions from real models: repeatable, of the whole distribution, unaffected by padding and settings."""

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from evaluate.generators.test_row_families import Tokenizer
from models.families import tiny

from qtarget import lab
from qtarget.evaluate.generators.drawing import draw
from qtarget.evaluate.generators.sampling import complete, complete_as_they_end, seed_of
from qtarget.evaluate.nouns import Request, SamplingProtocol

WORLD = lab.world("strong-prior")
PROMPTS = [question["prompt"] for question in lab.questions(WORLD, 6, seed=0)]
PROTOCOL = SamplingProtocol("plain", k=4, max_new_tokens=WORLD.max_new_tokens, seed=1)


def completions(model, tokenizer, prompts, protocol, batch_size=4):
    """[Q][k] completions, so many prompts in a batch."""
    requests = [
        Request(str(place), sample, seed_of(protocol.seed, str(place), sample), tuple(tokenizer(prompt)["input_ids"]))
        for place, prompt in enumerate(prompts)
        for sample in range(protocol.k)
    ]
    size, k = batch_size * protocol.k, protocol.k
    drawn = [
        done
        for start in range(0, len(requests), size)
        for done in complete(model, tokenizer, requests[start : start + size], protocol)
    ]
    return [drawn[start : start + k] for start in range(0, len(drawn), k)]


def texts(drawn):
    return [[(done.text, done.ids, done.finish) for done in row] for row in drawn]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def student():
    return lab.load_student(WORLD)


@pytest.fixture(scope="module")
def teacher():
    return lab.load_teacher(WORLD)


@pytest.fixture(scope="module")
def tokenizer():
    return lab.tokenizer(WORLD)


def test_a_rerun_repeats_every_completion_whatever_the_callers_random_state(student, tokenizer):
    torch.manual_seed(0)
    first = completions(student, tokenizer, PROMPTS, PROTOCOL)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert completions(student, tokenizer, PROMPTS, PROTOCOL) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert completions(student, tokenizer, PROMPTS, replace(PROTOCOL, seed=2)) != first


def test_every_prompt_gets_k_samples_and_batches_differ(student, tokenizer):
    drawn = completions(student, tokenizer, [PROMPTS[0]] * 8, PROTOCOL)
    assert [len(samples) for samples in drawn] == [4] * 8
    assert texts(drawn[:4]) != texts(drawn[4:])  # both batches hold the same prompts, but not the same draws


def test_samples_follow_the_models_whole_distribution(student, tokenizer):
    """First tokens of 4000 draws, at temperature 2, against the softmax; the prompt is left-padded."""
    prompts, k = [PROMPTS[0], "1 + 1 + 1 + 1 + 1 + 1 ?"], 4000
    drawn = completions(student, tokenizer, prompts, SamplingProtocol("plain", k=k, temperature=2.0, max_new_tokens=1))
    ids = tokenizer(prompts[0], return_tensors="pt").input_ids
    expected = (student.eval()(ids).logits[0, -1] / 2.0).softmax(-1)
    counts = Counter(tokenizer.convert_tokens_to_ids(sample.text) for sample in drawn[0] if sample.text)
    for token, count in counts.items():
        assert count / k == pytest.approx(expected[token].item(), abs=0.03)
    assert len(counts) > 50  # a top-k of 50, the usual default, would cut the tail


def test_a_completion_does_not_depend_on_what_stands_beside_it(student, tokenizer):
    """Nor on the batch size: each has random numbers of its own. Prompts of other lengths pad it."""
    together = completions(student, tokenizer, [*PROMPTS, "1 + 1 + 1 + 1 + 1 + 1 ?"], PROTOCOL)
    assert completions(student, tokenizer, PROMPTS, PROTOCOL, batch_size=1) == together[:6]


def test_at_temperature_0_the_likeliest_token_is_taken(student, tokenizer):
    greedy = completions(student, tokenizer, PROMPTS[:2], replace(PROTOCOL, temperature=0.0, max_new_tokens=1))
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    likeliest = student.eval()(ids).logits[0, -1].argmax().item()
    assert {sample.text for sample in greedy[0]} == {tokenizer.decode(likeliest)}


def test_top_p_takes_the_tail_away(student, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    shares, order = (student.eval()(ids).logits[0, -1] / 2.0).softmax(-1).sort(descending=True)
    kept = {
        tokenizer.decode(token) for token, before in zip(order, shares.cumsum(0) - shares, strict=True) if before < 0.5
    }
    protocol = SamplingProtocol("plain", k=300, temperature=2.0, max_new_tokens=1, top_p=0.5)
    drawn = completions(student, tokenizer, PROMPTS[:1], protocol)
    assert {sample.text for sample in drawn[0]} == kept


@pytest.mark.parametrize(
    "own", [{"repetition_penalty": 3.0}, {"min_new_tokens": 30}, {"no_repeat_ngram_size": 2}, {"top_k": 1}]
)
def test_what_the_models_own_generation_config_says_besides_its_end_token_is_not_looked_at(tokenizer, own):
    plain, other = lab.load_student(WORLD), lab.load_student(WORLD)
    other.generation_config.update(**own)
    drawn = [completions(model, tokenizer, PROMPTS[:2], PROTOCOL) for model in (plain, other)]
    assert drawn[0] == drawn[1]
    assert {name: getattr(other.generation_config, name) for name in own} == own


def test_tokens_are_counted_to_the_end_token_and_text_has_none(teacher, tokenizer):
    for samples in completions(teacher, tokenizer, PROMPTS, PROTOCOL):
        for sample in samples:
            assert "<" not in sample.text
            assert sample.tokens == len(sample.ids) == len(sample.text.split()) + (sample.finish == "stop")


def test_the_model_is_left_in_the_mode_it_came_in(student, tokenizer):
    for training in (True, False):
        student.train(training)
        completions(student, tokenizer, PROMPTS[:1], replace(PROTOCOL, max_new_tokens=1))
        assert student.training is training


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 0}, "k=0 was given; write 1 or more, as k=8."),
        ({"temperature": -0.1}, "temperature=-0.1 was given; write 0 or more, as temperature=0.7."),
        ({"temperature": float("inf")}, "temperature=inf was given; write at most 1e"),
        ({"temperature": float("nan")}, "temperature=nan was given"),
        ({"top_p": 0.0}, "top_p=0.0 was given; write a number above 0 and at most 1, as top_p=0.95."),
        ({"max_new_tokens": 0}, "max_new_tokens=0 was given; write 1 or more"),
        ({"max_new_tokens": 2**31}, "max_new_tokens=2147483648 was given; write at most 2,147,483,647"),
    ],
)
def test_a_protocol_that_cannot_be_drawn_is_refused(wrong, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        SamplingProtocol("plain", **wrong)


def requests_of_all(tokenizer):
    return [
        Request(str(place), 0, seed_of(1, str(place), 0), tuple(tokenizer(prompt)["input_ids"]))
        for place, prompt in enumerate(PROMPTS)
    ]


def test_a_completion_is_handed_over_when_it_ends_and_not_when_its_batch_does(student, tokenizer):
    model = student
    requests, steps, seen = requests_of_all(tokenizer), [], []
    handle = model.register_forward_hook(lambda *call: steps.append(1))
    try:
        for done in complete_as_they_end(model, tokenizer, requests, PROTOCOL):
            seen.append((done, len(steps)))
    finally:
        handle.remove()
    assert sorted(done.request.qid for done, _ in seen) == sorted(request.qid for request in requests)
    assert [done.tokens for done, _ in seen] == sorted(done.tokens for done, _ in seen)
    assert complete(model, tokenizer, requests, PROTOCOL) == sorted(
        (done for done, _ in seen), key=lambda done: int(done.request.qid)
    )


def test_a_batch_is_broken_off_when_nobody_reads_on(student, tokenizer):
    model = student
    steps = []

    def count(*call):
        steps.append(1)

    handle = model.register_forward_hook(count)
    try:
        drawing = complete_as_they_end(model, tokenizer, requests_of_all(tokenizer), PROTOCOL)
        first = next(drawing)
        drawing.close()
        assert len(steps) < PROTOCOL.max_new_tokens
        assert first.finish == "stop"
    finally:
        handle.remove()


def test_an_error_of_the_model_reaches_the_reader(student, tokenizer):
    model = student

    def fail(*call):
        raise RuntimeError("out of memory")

    handle = model.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            list(complete_as_they_end(model, tokenizer, requests_of_all(tokenizer), PROTOCOL))
    finally:
        handle.remove()


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "mistral", "falcon_h1", "xlnet"])
def test_rows_end_at_their_own_limit_and_are_the_same_whatever_the_batch(family):
    """Of gpt2 the positions are a table of 64: one step beyond it is an IndexError."""
    model = tiny(family)
    prompts = [[3 + (7 * place + token) % 60 for token in range(size)] for place, size in enumerate((60, 5, 33, 61, 2))]
    ask = SamplingProtocol("plain", k=1, max_new_tokens=40, temperature=3.0)
    alone = [draw(model, Tokenizer(), [ids], [seed], ask)[0] for seed, ids in enumerate(prompts)]
    most = [min(40, 64 - len(ids)) if family != "xlnet" else 40 for ids in prompts]
    assert all(len(new) == limit or new[-1] == 2 for new, limit in zip(alone, most, strict=True))
    assert all(len(new) <= limit for new, limit in zip(alone, most, strict=True))
    for batch_size in (2, 8):
        assert draw(model, Tokenizer(), prompts, range(5), ask, batch_size=batch_size) == alone


def test_a_prompt_without_a_position_for_an_answer_is_refused():
    with pytest.raises(ValueError, match="Prompt 1 has 64 tokens, and the model has 64 positions"):
        draw(tiny("gpt2"), Tokenizer(), [[3], [4] * 64], [0, 1], PROTOCOL)


def test_finished_rows_make_room_so_that_a_long_answer_holds_up_no_other(student, tokenizer):
    """Calls of the model: as many as the busiest place of the batch needs, not as many as the longest answer of each
    batch."""
    requests, steps = requests_of_all(tokenizer) * 4, []
    requests = [replace(r, sample=n, seed=seed_of(1, r.qid, n)) for n, r in enumerate(requests)]
    handle = student.register_forward_hook(lambda *call: steps.append(1))
    try:
        done = list(complete_as_they_end(student, tokenizer, requests, PROTOCOL, batch_size=4))
    finally:
        handle.remove()
    lengths = {completion.request.sample: completion.tokens for completion in done}
    assert len(lengths) == len(requests)
    assert len(steps) < sum(lengths.values()) / 2


def test_tokens_are_told_of_as_they_are_drawn(student, tokenizer):
    told, ended = [], []
    for done in complete_as_they_end(student, tokenizer, requests_of_all(tokenizer), PROTOCOL, 4, told.append):
        ended.append((sum(told), done.tokens))
    assert 0 < ended[0][0] <= sum(tokens for _, tokens in ended)
    assert sum(told) == sum(tokens for _, tokens in ended)
    assert max(told) == 4
