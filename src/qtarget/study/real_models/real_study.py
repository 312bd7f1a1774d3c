"""A study on real models: what is asked, and where its results, models and rows are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qtarget.study.own_commands import BY_ITSELF, CommandSurroundings
from qtarget.study.real_models.real_protocol import RealProtocol, RealSetting


@dataclass(frozen=True)
class RealStudy:
    """A study: what is asked, and where things are.

    Attributes:
        results: folder with a file for each unit.
        work: folder of models, caches and evaluations, which may be deleted.
        weights: folders or GGUF files, by the model's name on the hub.
        rows: folders, by the data set's name on the hub.
        batch_size: completions at once in an evaluation; None: as `qtarget eval` has it. No answer depends on it.
        bf16: train and answer in bfloat16, as a GPU does, on a processor as well.
        around: what the commands are run in.
    """

    protocol: RealProtocol
    results: Path
    work: Path
    weights: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Path] = field(default_factory=dict)
    batch_size: int | None = None
    bf16: bool = False
    around: CommandSurroundings = BY_ITSELF

    def model(self, name: str) -> str:
        """The place of a model that the protocol names: a folder or file that was given, else its hub name."""
        return self.weights.get(name, name)

    def home(self, setting: RealSetting) -> Path:
        """The folder of a setting's models, caches and evaluations."""
        return self.work / setting.name
