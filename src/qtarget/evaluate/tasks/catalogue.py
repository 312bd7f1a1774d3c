"""The catalogue of tasks.

Protocols. Mathematics: 16 samples at temperature 1 with the prompt ``qwen-boxed``, as DFT (arXiv 2508.05629) and
Beyond Log-Likelihood (arXiv 2510.00526) evaluate. Medicine: m1's (arXiv 2504.00869), one greedy answer. Any part of
it is a run's to override.
"""

from difflib import get_close_matches

from qtarget.evaluate.nouns import RowSource, SamplingProtocol, Task
from qtarget.evaluate.tasks.lab_sets import LAB_TASKS
from qtarget.evaluate.tasks.math_sets import gsm8k, olympiadbench, problems
from qtarget.evaluate.tasks.medical_sets import (
    gpqa,
    gpqa_whole,
    lettered,
    medbullets,
    medmcqa,
    mmlu_pro,
    mmlu_pro_health,
    pubmedqa,
)

QWEN = SamplingProtocol("qwen-boxed", k=16, temperature=1.0, top_p=1.0, max_new_tokens=4096)
M1 = SamplingProtocol("m1", k=1, temperature=0.0, top_p=1.0, max_new_tokens=2048)

TASKS: dict[str, Task] = {
    "math-500": Task(
        name="math-500",
        version=1,
        suite="math",
        source=RowSource("HuggingFaceH4/MATH-500"),
        rows=500,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="arXiv 2305.20050, of arXiv 2103.03874",
    ),
    "minerva-272": Task(
        name="minerva-272",
        version=1,
        suite="math",
        source=RowSource("math-ai/minervamath"),
        rows=272,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="arXiv 2206.14858",
    ),
    "olympiadbench": Task(
        name="olympiadbench",
        version=1,
        suite="math",
        source=RowSource("Hothan/OlympiadBench", config="OE_TO_maths_en_COMP", split="train"),
        rows=None,
        ask=QWEN,
        read=olympiadbench,
        grader="math",
        citation="arXiv 2402.14008",
    ),
    "aime24": Task(
        name="aime24",
        version=1,
        suite="math",
        source=RowSource("HuggingFaceH4/aime_2024", split="train"),
        rows=30,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="American Invitational Mathematics Examination 2024",
    ),
    "aime25": Task(
        name="aime25",
        version=1,
        suite="math",
        source=RowSource("yentinglin/aime_2025", split="train"),
        rows=30,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="American Invitational Mathematics Examination 2025",
    ),
    "amc23": Task(
        name="amc23",
        version=1,
        suite="math",
        source=RowSource("zwhe99/amc23"),
        rows=40,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="American Mathematics Competitions 12, 2023",
    ),
    "gsm8k": Task(
        name="gsm8k",
        version=1,
        suite="math",
        source=RowSource("openai/gsm8k", config="main"),
        rows=1319,
        ask=QWEN,
        read=gsm8k,
        grader="math",
        citation="arXiv 2110.14168",
    ),
    "aime26": Task(
        name="aime26",
        version=1,
        suite="math",
        source=RowSource("MathArena/aime_2026", split="train"),
        rows=30,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="American Invitational Mathematics Examination 2026, of arXiv 2605.00674",
    ),
    "hmmt-feb-2026": Task(
        name="hmmt-feb-2026",
        version=1,
        suite="math",
        source=RowSource("MathArena/hmmt_feb_2026", split="train"),
        rows=33,
        ask=QWEN,
        read=problems,
        grader="math",
        citation="HMMT February 2026, of arXiv 2605.00674",
    ),
    "medqa": Task(
        name="medqa",
        version=1,
        suite="medical",
        source=RowSource("GBaker/MedQA-USMLE-4-options"),
        rows=1273,
        ask=M1,
        read=lettered,
        grader="choice",
        citation="arXiv 2009.13081",
    ),
    "medmcqa": Task(
        name="medmcqa",
        version=1,
        suite="medical",
        source=RowSource("openlifescienceai/medmcqa", split="validation"),
        rows=4183,
        ask=M1,
        read=medmcqa,
        grader="choice",
        citation="arXiv 2203.14371",
    ),
    "pubmedqa": Task(
        name="pubmedqa",
        version=1,
        suite="medical",
        source=RowSource("qiaojin/PubMedQA", config="pqa_labeled", split="train"),
        rows=1000,
        ask=M1,
        read=pubmedqa,
        grader="choice",
        citation="arXiv 1909.06146",
    ),
    "mmlu-pro-health": Task(
        name="mmlu-pro-health",
        version=1,
        suite="medical",
        source=RowSource("TIGER-Lab/MMLU-Pro"),
        rows=None,
        ask=M1,
        read=mmlu_pro_health,
        grader="choice",
        citation="arXiv 2406.01574",
    ),
    "gpqa": Task(
        name="gpqa",
        version=1,
        suite="medical",
        source=RowSource("Idavidrein/gpqa", config="gpqa_main", split="train", gated=True),
        rows=None,
        ask=M1,
        read=gpqa,
        grader="choice",
        citation="arXiv 2311.12022",
    ),
    "medbullets": Task(
        name="medbullets",
        version=1,
        suite="medical",
        source=RowSource(
            "ReasoningEval/Benchmark_MedBullets", files=("medbullets_op4.jsonl", "medbullets_op5.jsonl"), split="train"
        ),
        rows=None,
        ask=M1,
        read=medbullets,
        grader="choice",
        citation="arXiv 2402.18060",
    ),
    "medxpertqa": Task(
        name="medxpertqa",
        version=1,
        suite="medical",
        source=RowSource("ReasoningEval/Benchmark_MedXpertQA", files=("midium.jsonl",), split="train"),
        rows=None,
        ask=M1,
        read=lettered,
        grader="choice",
        citation="arXiv 2501.18362",
    ),
    "lancet": Task(
        name="lancet",
        version=1,
        suite="medical",
        source=RowSource("ReasoningEval/Benchmark_Lancet", files=("midium.jsonl",), split="train"),
        rows=None,
        ask=M1,
        read=lettered,
        grader="choice",
        citation="arXiv 2504.00869",
    ),
    "nejm": Task(
        name="nejm",
        version=1,
        suite="medical",
        source=RowSource("ReasoningEval/Benchmark_NEJM", files=("midium.jsonl",), split="train"),
        rows=None,
        ask=M1,
        read=lettered,
        grader="choice",
        citation="arXiv 2504.00869",
    ),
    "mmlu-pro": Task(
        name="mmlu-pro",
        version=1,
        suite="knowledge",
        source=RowSource("TIGER-Lab/MMLU-Pro"),
        rows=None,
        ask=M1,
        read=mmlu_pro,
        grader="choice",
        citation="arXiv 2406.01574",
    ),
    **{
        f"gpqa-{subset}": Task(
            name=f"gpqa-{subset}",
            version=1,
            suite="knowledge",
            source=RowSource("Idavidrein/gpqa", config=f"gpqa_{subset}", split="train", gated=True),
            rows=rows,
            ask=M1,
            read=gpqa_whole,
            grader="choice",
            citation="arXiv 2311.12022",
        )
        for subset, rows in (("main", 448), ("diamond", 198), ("extended", 546))
    },
    **LAB_TASKS,
}


def task(name: str) -> Task:
    """The task of that name; `ValueError` naming the near miss for any other."""
    if name in TASKS:
        return TASKS[name]
    near = get_close_matches(name.lower(), TASKS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"Unknown task {name!r}. {hint}Write one of: {', '.join(map(repr, TASKS))}.")
