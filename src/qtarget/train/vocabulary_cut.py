"""`vocabulary_parallel`: the work of the output layer cut over the ranks of a run, by rows of its vocabulary."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

import qtarget as qt
from qtarget.data import Asker
from qtarget.models.causal_lm import gathered_weight, head_of, layer_rows, output_layer
from qtarget.train.loss_tokens import LossTokens

KEY = "vocabulary_parallel"


@dataclass(frozen=True)
class VocabularyCut:
    """Which rows of the output layer each rank multiplies, for the tokens of all ranks.

    Attributes:
        shard: the rows of each rank.
        ranks_differ: whether each rank has tokens of its own, and the whole output layer, as in data parallelism. Under
            tensor parallelism ranks have the same tokens, and each holds its rows alone.
    """

    shard: qt.Shard
    ranks_differ: bool

    def head(self, model: PreTrainedModel) -> qt.Head:
        """This rank's rows of the output layer."""
        return head_of(model, self._own_rows)._replace(shard=self.shard)

    def _own_rows(self, parameter: Tensor) -> Tensor:
        if not self.ranks_differ:
            assert isinstance(parameter, DTensor)
            return parameter.to_local()
        return gathered_weight(parameter)[self.shard.start : self.shard.stop]

    def tokens(self, own: LossTokens) -> LossTokens:
        """The tokens of all ranks."""
        return own.of_all_ranks(self.shard.group) if self.ranks_differ else own

    def share(self, loss: Tensor) -> Tensor:
        """One rank's share of the loss of all ranks' tokens, for a sum over the ranks; its gradient is that of all."""
        ranks = len(self.shard.bounds) - 1
        return loss - loss.detach() * (1 - 1 / ranks) if self.ranks_differ else loss


def vocabulary_cut(
    model: PreTrainedModel, method: qt.Method, args: Any, accelerator: Any, asker: Asker
) -> VocabularyCut | None:
    """How `args.vocabulary_parallel` cuts the output layer of a model; None where it is off, and, with a warning, in a
    single process. Every rank has to call.

    Raises:
        ValueError: a launch, a method or an output layer that it cannot be for, with the line to write.
    """
    if not args.vocabulary_parallel:
        return None
    if accelerator.num_processes == 1:
        warnings.warn(
            "`vocabulary_parallel: true` cuts the output layer's work over the ranks of a run, and this run is one "
            "process: nothing is cut. Several are started by `accelerate launch --num_processes 8`.",
            stacklevel=2,
        )
        return None
    _check_launch(args, accelerator, asker)
    weight = output_layer(model).weight
    if isinstance(weight, DTensor):
        return VocabularyCut(_held_rows(weight, accelerator, asker), ranks_differ=False)
    _check_own_tokens(method, args, asker)
    return VocabularyCut(_even_rows(layer_rows(weight), asker), ranks_differ=True)


def _check_launch(args: Any, accelerator: Any, asker: Asker) -> None:
    said, off = "`vocabulary_parallel: true` ", f"write {asker.line(KEY, False)}"
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise ValueError(
            f"{said}is not supported under DeepSpeed; {off}, or launch with FSDP2, as `accelerate launch --config_file "
            "examples/scale/fsdp2.yaml` does."
        )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError(
            f"{said}is supported under FSDP2, and this launch uses FSDP1; write `fsdp_version: 2` into `fsdp_config`, "
            f"or {off}."
        )
    if args.torch_compile:
        raise ValueError(f"{said}exchanges tensors in the loss, which no graph holds; {off}, or leave compiling out.")


def _check_own_tokens(method: qt.Method, args: Any, asker: Asker) -> None:
    """Refuse what would be another computation where the tokens of all ranks go through the loss together."""
    if method.scope == "batch":
        raise ValueError(
            f'"{method.name}" looks at the micro-batch of one rank, and `vocabulary_parallel: true` computes the loss '
            f"of all ranks' together, which would be another method; write {asker.line(KEY, False)}."
        )
    if not args.average_tokens_across_devices:
        raise ValueError(
            "`vocabulary_parallel: true` divides by the labels of all ranks, and `average_tokens_across_devices: "
            f"false` by those of each; write {asker.line('average_tokens_across_devices', True)}, or "
            f"{asker.line(KEY, False)}."
        )


def _held_rows(weight: DTensor, accelerator: Any, asker: Asker) -> qt.Shard:
    """The rows that tensor parallelism leaves to each rank."""
    ranks = accelerator.num_processes
    is_by_rows = weight.device_mesh.size() == ranks and all(place.is_shard(0) for place in weight.placements)
    if weight.device_mesh.ndim > 1 or not is_by_rows:
        line = asker.line("model_init_kwargs", {"distributed_config": {"tp_size": ranks}})
        raise ValueError(
            f"`vocabulary_parallel: true` needs an output layer whose rows are cut over all {ranks} ranks, and this "
            f"one is placed as {weight.placements} over {weight.device_mesh.size()}; write {line}, or "
            f"{asker.line(KEY, False)}."
        )
    return qt.Shard.of(weight)


def _even_rows(rows: int, asker: Asker) -> qt.Shard:
    """As many rows for each rank, as near as may be."""
    ranks = dist.get_world_size()
    if rows < ranks:
        raise ValueError(
            f"The output layer has {rows} rows, fewer than there are ranks ({ranks}); write {asker.line(KEY, False)}."
        )
    group: Any = dist.group.WORLD
    return qt.Shard(tuple(rows * rank // ranks for rank in range(ranks + 1)), group)
