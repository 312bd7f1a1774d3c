"""A TRL script, with one import and two lines changed: Target-SFT instead of the negative log-likelihood.

    python examples/train_with_trl.py MODEL TEACHER rows.jsonl OUT

rows.jsonl holds prompt-completion or messages rows, as TRL reads them.
"""

import sys

from datasets import load_dataset

from qtarget.train import TargetSFTConfig, TargetSFTTrainer


def main(model: str, teacher: str, rows: str, out: str) -> None:
    args = TargetSFTConfig(
        output_dir=out,
        method="target-sft",
        method_kwargs={"eta": 0.5},
        teacher=teacher,
        max_steps=4,
        per_device_train_batch_size=2,
        bf16=False,
        report_to="none",
    )
    data = load_dataset("json", data_files=rows, split="train")
    trainer = TargetSFTTrainer(model=model, args=args, train_dataset=data)
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    main(*sys.argv[1:5])
