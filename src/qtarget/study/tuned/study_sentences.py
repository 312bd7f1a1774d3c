"""The sentences of the study's page. They are true at every stage of the study."""

from collections import Counter
from collections.abc import Sequence

from qtarget.study.tuned.analysis import PrimaryVerdict, SettingResult, primary_verdicts, without_control
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.study_cells import NOTHING_YET, points
from qtarget.study.tuned.tuned_arms import COMMON, GREEDY, WHOLE_SOFTMAX


def state_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """How much of the study is there."""
    all_of_them = len(study.settings)
    if len(found) == all_of_them:
        return f"All {all_of_them} settings are run."
    missing = all_of_them - len(found)
    return (
        f"**Not run yet: {missing} of {all_of_them} settings.** What stands here is of the others; the primary outcome "
        "is the whole, and until then its adjusted p counts the missing settings as if they showed nothing."
    )


def count_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary outcome in two sentences."""
    verdicts = primary_verdicts(study, found)
    if not verdicts:
        return NOTHING_YET
    if study.contrasts:
        return contrasts_sentence(study, verdicts)
    words, named = Counter(verdict.word for verdict in verdicts), Counter(verdict.rival for verdict in verdicts)
    firsts = Counter(result.first for result in without_control(found))
    return (
        f"In {len(verdicts)} setting{'s' if len(verdicts) > 1 else ''} Target-SFT is clearly ahead of its best tuned "
        f"rival in **{words['clearly ahead']}**, clearly behind in **{words['clearly behind']}**, and not told apart "
        f"from it in **{words['not told apart']}**. The rival was {_listed(named)}. The highest mean in the test has: "
        f"{_listed(firsts)}."
    )


def contrasts_sentence(study: TunedStudy, verdicts: Sequence[PrimaryVerdict]) -> str:
    """What of the study's named contrasts was told apart."""
    told = [each for each in verdicts if each.word != "not told apart"]
    all_of_them = len(study.contrasts) * len(study.settings)
    named = [f"{each.ours} is {each.word.removeprefix('clearly ')} of {each.rival}" if each.difference.mean > 0 else
             f"{each.ours} is {each.word.removeprefix('clearly ')} {each.rival}" for each in told]  # fmt: skip
    after = (
        ""
        if not told
        else " These are: "
        + "; ".join(
            f"{words} in {each.setting.name} ({points(each.difference)})"
            for words, each in zip(named, told, strict=True)
        )
        + "."
    )
    return (
        f"Of {all_of_them} contrasts, {len(verdicts)} are run, and **{len(told)}** of these "
        f"{'is' if len(told) == 1 else 'are'} told apart after Holm's adjustment.{after}"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}×" for name, number in counts.most_common())


def students_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """What students and teachers know before any training."""
    if not found:
        return NOTHING_YET
    bases = [100 * result.base_greedy for result in without_control(found)]
    teachers: dict[str, SettingResult] = {result.setting.teacher: result for result in found if result.teachers}
    known = ", ".join(f"{name} {_at_both(each)}" for name, each in teachers.items())
    control = [100 * result.base_greedy for result in found if result.setting.is_control]
    after = f"; in the control, {control[0]:.0f} %" if control else ""
    low, high = (f"{end:.0f}" for end in (min(bases, default=0), max(bases, default=0)))
    return (
        f"Right before any training, at temperature 0: the students in {low if low == high else f'{low} to {high}'} % "
        f"of the test questions, by setting{after}." + (f" The teachers: {known}." if known else "")
    )


def _at_both(result: SettingResult) -> str:
    cold, warm = (f"{100 * result.teacher_mean(each):.0f} %" for each in (GREEDY, WHOLE_SOFTMAX))
    return f"{cold} at temperature 0 and {warm} at temperature 1"


def design_sentence(study: TunedStudy) -> str:
    """How much of everything, in sentences."""
    of_each = "each student and each teacher" if study.settings[0].teacher else "the student"
    return (
        f"{study.seeds} trainings of each arm in each setting, over {study.pretraining_seeds} pre-trainings of "
        f"{of_each}; {study.development} development questions and {study.test} in the test, "
        f"{study.samples} answers to each at {COMMON.label}; {study.demonstrations} rows, "
        f"{study.settings[0].world.batch_size} a step, ×1 is a learning rate of "
        f"{study.settings[0].world.learning_rate:g}."
    )


def runs_sentence(found: Sequence[SettingResult]) -> str:
    """How long the test's runs took, and with which versions."""
    by_name = {
        (outcome.run.place, outcome.run.name): outcome
        for result in found
        for outcomes in (result.teachers, *(arm.outcomes for arm in result.arms.values()))
        for outcome in outcomes
    }
    if not by_name:
        return NOTHING_YET
    outcomes = list(by_name.values())
    versions = ", ".join(f"{name} {number}" for name, number in outcomes[0].made_with.items() if name != "machine")
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    return f"The test's {len(outcomes)} runs took {hours:.1f} hours of one processor. {versions}."
