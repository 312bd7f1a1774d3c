"""The loss of a model at every held-out row, in a process of its own: `python -m qtarget.search.row_losses`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from qtarget.disk.files import write_json
from qtarget.models.causal_lm import head_of, hidden_states, input_device
from qtarget.models.loading import causal_lm_from
from qtarget.target.source_logits import head_logits
from qtarget.target.types import IGNORED

LabelledRow = tuple[list[int], list[int]]
"""Token ids, and labels: a token's own id where it is learned, else −100."""


@torch.no_grad()
def row_losses(model: Any, rows: Sequence[LabelledRow]) -> list[float]:
    """For every row, the sum of −log p over its learned tokens, nats."""
    model.eval()
    found = []
    for ids, labels in rows:
        ids_1S, labels_S = torch.tensor([ids], device=input_device(model)), torch.tensor(labels)
        places_T = (labels_S[1:] != IGNORED).nonzero()[:, 0]
        hidden_1SH = hidden_states(model, {"input_ids": ids_1S, "attention_mask": torch.ones_like(ids_1S)})
        before_TH = hidden_1SH[0, -len(ids) :][places_T.to(hidden_1SH.device)]
        logp_TV = head_logits(before_TH, head_of(model)).float().log_softmax(-1)
        label_T1 = labels_S[1:][places_T].to(logp_TV.device)[:, None]
        found.append(-float(logp_TV.gather(-1, label_T1).double().sum()))
    return found


def main(words: Sequence[str]) -> None:
    """Words: the model's folder, a file of rows as JSON lines, and the file to write the losses to."""
    model, rows, out = words
    lines = Path(rows).read_text(encoding="utf-8").splitlines()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    opened: Any = causal_lm_from(model, {"dtype": "auto"})
    losses = row_losses(opened.to(device), [(each["input_ids"], each["labels"]) for each in map(json.loads, lines)])
    write_json(Path(out), {"losses": losses})


if __name__ == "__main__":
    main(sys.argv[1:])
