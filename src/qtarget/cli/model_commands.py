"""`qtarget chat` and `merge`: what one does with a model once it is trained."""

from pathlib import Path
from typing import Annotated, Any

import typer

from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import AsJson, ReadsPickles, TrustsCode, preparation, print_json
from qtarget.console import SafeConsole

model_app = typer.Typer()

CHAT_HELP = """Talk to a model: a folder, an adapter's folder, a GGUF file or a hub name.

Lines go through the model's chat template, and an answer ends where one of
`qtarget eval` does. Ctrl-C stops an answer; /reset begins anew; /exit, or
Ctrl-D, ends. A model without a template goes on with your text.

    qtarget chat out
    qtarget chat out --system 'You are brief.' --temperature 0
"""
MERGE_HELP = """Merge a LoRA adapter into its base: one model folder, which every program opens.

It is computed in float32, stored in the base's own type, sealed as a result of
training is, and its logits are compared with those of the adapter on its base.

    qtarget merge out --out merged
"""


@model_app.command("chat", short_help="Talk to a model.", help=CHAT_HELP)
def chat_command(
    model: Annotated[str, typer.Argument(help="Folder, GGUF file or hub name.")],
    system: Annotated[str, typer.Option(help="Message that stands before all others.", show_default=False)] = "",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Mass of the tokens that are drawn from.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens of an answer.")] = 1024,
    seed: Annotated[int | None, typer.Option(help="Of the draws.", show_default="a new one each time")] = None,
    dtype: Annotated[str, typer.Option(help="A torch dtype's name, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="As torch names it, or auto.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit or branch on the hub.", show_default=False)] = None,
    trust_remote_code: TrustsCode = False,
    allow_pickled_weights: ReadsPickles = False,
) -> None:
    with diverted_noise():
        from qtarget.cli.chat_loop import converse
        from qtarget.evaluate.dialogue import AnswerSettings, Dialogue, Partner
        from qtarget.evaluate.generators.huggingface import HuggingFace

        with preparation({"MODEL": model}):
            settings = AnswerSettings(temperature, top_p, max_new_tokens, seed)
            settings.check()
            options: Any = {"trust_remote_code": trust_remote_code, "allow_pickled_weights": allow_pickled_weights}
            source = HuggingFace(model, revision=revision, dtype=dtype, device=device, **options)
            dialogue = Dialogue(source.tokenizer, system)
            dialogue.check()
            partner = Partner(source, settings)
            assert partner.network is not None  # its weights are loaded before the first line is read
    console = SafeConsole(stderr=True, soft_wrap=True)
    if not dialogue.has_template:
        console.print(f"{model} has no chat template: it goes on with your text, and answers no questions", style="dim")
    raise typer.Exit(converse(dialogue, partner))


@model_app.command("merge", short_help="Merge a LoRA adapter into its base.", help=MERGE_HELP)
def merge_command(
    adapter: Annotated[str, typer.Argument(help="Folder or hub name of a LoRA adapter.")],
    out: Annotated[Path, typer.Option(help="Folder to write, which is not there yet.", show_default=False)],
    base: Annotated[
        str | None, typer.Option(help="Its base, where that is elsewhere now.", show_default="the adapter's own")
    ] = None,
    trust_remote_code: TrustsCode = False,
    allow_pickled_weights: ReadsPickles = False,
    as_json: AsJson = False,
) -> None:
    with diverted_noise():
        from qtarget.job.merged_model import check_free, write_merged
        from qtarget.models.merging import plan_merge

        with preparation({"ADAPTER": adapter, "--base": base}):
            check_free(out)
            options: Any = {"trust_remote_code": trust_remote_code, "allow_pickled_weights": allow_pickled_weights}
            plan = plan_merge(adapter, base, **options)
        probe = write_merged(plan, out)
    if as_json:
        return print_json({"adapter": adapter, "base": plan.base, "out": str(out), **probe._asdict()})
    SafeConsole(soft_wrap=True).print(
        f"{out}: {adapter} merged into {plan.base}. The largest difference of a logit is {probe.difference:.2g} (the "
        f"largest logit is {probe.largest:.3g}; the adapter moves logits by up to {probe.moved:.2g})."
    )
