"""Which runs the study and its sweep consist of, and how η is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtarget.study.miniature.settings import Setting
from qtarget.study.run_record import UNTRAINED, Budget, Outcome, Run, Split

ETAS = (0.1, 0.2, 0.5, 0.8)
DEVELOPMENT_SEED = 1000
"""Of the one training with which each η is tried; the test's trainings have seeds 0, 1, …"""
ARM_NAMES = ("base", "sft", "dft", "kd", "target-sft", "teacher")


@dataclass(frozen=True)
class Study:
    """Which settings are run, with which trainings.

    Attributes:
        seeds: of the test's trainings.
        etas: values of Target-SFT's η to choose from.
        share: of the optimizer steps of each world's own budget.
        development, test: questions of each split; samples: answers to each.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    etas: tuple[float, ...] = ETAS
    share: float = 1.0
    development: int = 100
    test: int = 200
    samples: int = 16

    def budget(self, setting: Setting) -> Budget:
        """What each run of the setting gets."""
        world = setting.world
        return Budget(
            demonstrations=world.demonstrations,
            steps=max(20, round(world.fine_tuning_steps * self.share)),
            batch_size=world.batch_size,
            learning_rate=world.learning_rate,
            development=self.development,
            test=self.test,
            samples=self.samples,
            max_new_tokens=world.max_new_tokens,
        )

    def run(self, setting: Setting, method: str, seed: int, split: Split = "test", eta: float | None = None) -> Run:
        values = {} if eta is None else {"eta": eta}
        return Run(setting.name, method, values, seed, split, self.budget(setting))

    def choice_runs(self) -> list[Run]:
        """Target-SFT with each η, on development questions and a training that the test does not use."""
        return [
            self.run(setting, "target-sft", DEVELOPMENT_SEED, "development", eta)
            for setting in self.settings
            for eta in self.etas
        ]

    def test_runs(self, chosen: Mapping[str, float]) -> list[Run]:
        """Every method with every seed, seed by seed, so that an unfinished study has all settings.

        Args:
            chosen: η by setting.
        """
        return [
            self.run(setting, method, seed, "test", chosen[setting.name] if method == "target-sft" else None)
            for seed in self.seeds
            for setting in self.settings
            for method in ARM_NAMES
        ]

    def sweep_runs(self) -> list[Run]:
        """Every method that trains, Target-SFT with every η, on the test's questions: no η is chosen."""
        arms = [(method, None) for method in ARM_NAMES if method not in (*UNTRAINED, "target-sft")]
        arms += [("target-sft", eta) for eta in self.etas]
        return [
            self.run(setting, method, seed, "test", eta)
            for seed in self.seeds
            for setting in self.settings
            for method, eta in arms
        ]


def choose_eta(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The η with the best mean on the development questions, by setting; of equally good ones the smallest."""
    chosen: dict[str, tuple[float, float]] = {}
    for outcome in outcomes:
        mark = (outcome.mean, -outcome.run.hyperparameters["eta"])
        chosen[outcome.run.setting] = max(mark, chosen.get(outcome.run.setting, mark))
    return {setting: -eta for setting, (_, eta) in chosen.items()}
