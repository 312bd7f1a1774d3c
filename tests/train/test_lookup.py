"""Training from caches and servers: the same run as from the live model, and refused where it cannot be."""

import warnings

import pytest
import tiny_models
from train import parity

from qtarget.models.identity import weights_identity
from qtarget.teacher import Keep, LiveModel, documents_of_rows, kept_logprobs
from qtarget.teacher.cache import CacheOrigin, plan_cache, write_cache
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.lookup import rendering

TEACHER = {"seed": 1, "width": 48}


def trainer(method="target-sft", tokenizer=None, rows=16, data=None, **changes):
    args = TargetSFTConfig(method=method, **parity.common_args(**{"max_steps": 3, **changes}))
    data = tiny_models.prompt_completion(rows) if data is None else data
    return TargetSFTTrainer(
        tiny_models.tiny_model(), args, train_dataset=data, processing_class=tokenizer or tiny_models.tiny_tokenizer()
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("teacher"))
    tiny_models.tiny_model(**TEACHER).save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return folder


def cached(folder, model: str, k: int = tiny_models.VOCAB, temperature: float = 1.0, by_mass=None, **changes):
    """A cache of the rows as a trainer with these settings renders them."""
    plain = trainer("sft", **changes)
    parts = rendering(plain.args, tiny_models.tiny_tokenizer(), None)
    origin = CacheOrigin(
        **parts, teacher=weights_identity(model), compute_dtype="float32", vocabulary=tiny_models.VOCAB
    )
    keep = Keep(k, temperature=temperature)
    plan = plan_cache(documents_of_rows(plain.train_dataset), origin, keep, storage_dtype="float32", by_mass=by_mass)
    live = LiveModel(tiny_models.tiny_model(**TEACHER))
    write_cache(folder, plan, lambda documents: kept_logprobs(live, documents, plan.keep))
    return str(folder)


def ran(**changes):
    run = trainer(**changes)
    run.train()
    return parity.history(run)


@pytest.mark.failure_case(8)
@pytest.mark.parametrize("layout", [{}, {"packing": True, "max_length": 40}, {"dataloader_num_workers": 1}], ids=str)
def test_a_cache_of_every_token_is_the_live_teacher(tmp_path, teacher, layout):
    folder = cached(tmp_path / "cache", teacher, **layout)
    live = ran(teacher=teacher, **layout)
    assert max(parity.deviation(ran(teacher_cache=folder, **layout), live)) < 1e-5
    assert max(parity.deviation(ran(teacher_cache=folder, teacher=teacher, **layout), live)) < 1e-5


def test_a_cached_reference_is_the_live_one(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    for method in ("sft-kl", "prift"):
        live = ran(method=method, reference=teacher)
        assert max(parity.deviation(ran(method=method, reference=teacher, reference_cache=folder), live)) < 1e-5


@pytest.mark.failure_case(11)
def test_another_teacher_than_the_one_cached_is_refused(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    other = str(tmp_path / "other")
    tiny_models.tiny_model(seed=2).save_pretrained(other)
    with pytest.raises(ValueError, match=r"teacher: .* in the cache, .* now"):
        trainer(teacher_cache=folder, teacher=other)
    tiny_models.tiny_tokenizer().save_pretrained(other)
    with pytest.raises(ValueError, match=r"teacher: .* in the cache, .* now"):
        trainer("sft-kl", reference_cache=folder, reference=other)


def test_a_cache_in_the_place_of_a_model_is_refused_with_the_key_to_write(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    with pytest.raises(ValueError, match=rf"is a teacher cache, and no model; write `teacher_cache: {folder}`"):
        trainer(teacher=folder)
    with pytest.raises(ValueError, match=rf"write `reference_cache: {folder}`"):
        trainer("sft-kl", reference=folder)
    with pytest.raises(ValueError, match="ftp://host begins with ftp://"):
        trainer(teacher="ftp://host")


@pytest.mark.failure_case(7)
def test_a_permuted_tokenizer_is_refused(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    words = tiny_models.WORDS.copy()
    words[0], words[1] = words[1], words[0]
    with pytest.raises(ValueError, match=r"tokenizer: .* in the cache, .* now"):
        trainer(teacher_cache=folder, tokenizer=tiny_models.tiny_tokenizer(words))


@pytest.mark.failure_case(11)
def test_rows_that_were_not_cached_are_refused_with_what_differs(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    with pytest.raises(
        ValueError,
        match=r"nothing about 1 of the 17 documents of the train.*the rows, or what the teacher is asked",
    ):
        trainer(teacher_cache=folder, data=tiny_models.prompt_completion(17))
    with pytest.raises(ValueError, match=r"truncation: .*\"max_length\": 1024.* in the cache, .*\"max_length\": 6"):
        trainer(teacher_cache=folder, max_length=6)


def test_what_a_method_cannot_make_of_a_cache_is_refused(tmp_path, teacher):
    few = cached(tmp_path / "few", teacher, k=4)
    with pytest.raises(ValueError, match="keep them at temperature 2"):
        trainer("kd", teacher_cache=few, method_kwargs={"temperature": 2.0})
    labels = cached(tmp_path / "labels", teacher, k=0)
    with pytest.raises(ValueError, match="keeps the label's log-probability alone"):
        trainer(teacher_cache=labels)
    assert trainer("prift", reference_cache=labels).train().global_step == 3


def test_a_model_with_fewer_rows_than_the_teacher_has_tokens_is_refused(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    args = TargetSFTConfig(teacher_cache=folder, **parity.common_args())
    small = tiny_models.tiny_model(vocab=tiny_models.VOCAB - 1)
    rows = tiny_models.prompt_completion(16).filter(lambda row: tiny_models.WORDS[-1] not in str(row))
    with pytest.raises(
        ValueError, match=rf"has a vocabulary of {tiny_models.VOCAB} tokens, .* has {tiny_models.VOCAB - 1} rows"
    ):
        TargetSFTTrainer(small, args, train_dataset=rows, processing_class=tiny_models.tiny_tokenizer())


def test_a_cache_at_a_temperature_is_kd_at_that_temperature(tmp_path, teacher):
    warm = cached(tmp_path / "warm", teacher, temperature=2.0)
    kd = {"method": "kd", "method_kwargs": {"temperature": 2.0}}
    assert max(parity.deviation(ran(teacher_cache=warm, **kd), ran(teacher=teacher, **kd))) < 1e-5


def test_a_cache_at_a_teachers_own_temperature_is_the_live_teacher_sharpened(tmp_path, teacher):
    sharp = cached(tmp_path / "sharp", teacher, temperature=0.5)
    few = cached(tmp_path / "few", teacher, k=4)
    for method in ("kd", "target-sft"):
        wanted = {"method": method, "method_kwargs": {"teacher_temperature": 0.5}}
        assert max(parity.deviation(ran(teacher_cache=sharp, **wanted), ran(teacher=teacher, **wanted))) < 1e-5
        with pytest.raises(ValueError, match=r"keep them at temperature 0\.5"):
            trainer(teacher_cache=few, **wanted)


def test_as_many_caches_as_teachers(tmp_path, teacher):
    folder = cached(tmp_path / "cache", teacher)
    with pytest.raises(ValueError, match=r"names 1 folder\(s\) and `teacher` 2 model"):
        trainer(teacher=[teacher, teacher], teacher_cache=folder)


def test_a_python_user_is_told_of_a_cache_that_holds_little(tmp_path, teacher):
    with pytest.warns(UserWarning, match=r"little holds 0\.\d\d of the teacher's probability") as said:
        trainer(teacher_cache=cached(tmp_path / "little", teacher, k=2))
    assert len([each for each in said if "probability in the mean" in str(each.message)]) == 1
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer(teacher_cache=cached(tmp_path / "whole", teacher))
    assert not [each for each in said if "probability in the mean" in str(each.message)]
