"""The reference of the methods: all that the catalogue says of each."""

from qtarget.disk.pages import markdown
from qtarget.job.method_pages import MethodEntry, entries

HEAD = """# Every method

Written from the code when the site is built; `qtarget methods NAME` shows the same. [Which target?](../which-target.md)
helps to choose, [Ideas](../ideas.md) explains the letters: p is the distribution of the model that is trained (the
student), p_y its probability of the label, d the one-hot label, r the reference, t the teacher, H an entropy. γ (trust)
is the share of the target that the label gets, π̃ (residual) is where the rest goes. 1[…] is 1 where the condition
holds, else 0; sg[…] is held constant.
"""
SCOPES = {"token": "each token alone", "sequence": "whole sequences", "batch": "the whole micro-batch of a rank"}


def method_pages() -> dict[str, str]:
    """One page: every method with its formula, limits, needs and hyperparameters."""
    return {"methods.md": "\n".join([HEAD, *(_section(entry) for entry in entries())])}


def _section(entry: MethodEntry) -> str:
    facts = {
        "use when": entry.use_when,
        "trust γ": f"`{entry.trust}`",
        "residual π̃": f"`{entry.residual}`",
        "formula": f"`{entry.formula}`",
        "limits": entry.limits,
        "needs": ", ".join(entry.needs) or "nothing besides the rows",
        "looks at": SCOPES[entry.scope],
        "remarks": _escaped(entry.remarks),
        "source": entry.source,
    }
    table = markdown(("", ""), [(name, text.replace("|", "\\|")) for name, text in facts.items() if text])
    return f"## {entry.name}\n\n{_escaped(entry.summary)}\n\n{table}\n\n{_parameters(entry)}\n"


def _parameters(entry: MethodEntry) -> str:
    rows = [(f"`{p.name}`", f"`{p.default}`", p.domain, _escaped(p.meaning)) for p in entry.parameters]
    return markdown(("hyperparameter", "default", "may be", "meaning"), rows) if rows else ""


def _escaped(text: str) -> str:
    """Text in which stars, underscores and brackets are meant as such."""
    return "".join(f"\\{letter}" if letter in "*_<[" else letter for letter in text)
