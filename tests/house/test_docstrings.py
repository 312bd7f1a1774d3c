"""Whatever has a public name says in words what it is."""

import ast

import pytest
from house.package import FUNCTIONS, definitions, modules

SILENT = {
    "job.config.keys": ["trainer_keys"],
    "job.facts": ["data_facts", "facts_of", "versions"],
    "job.training": ["last_checkpoint"],
    "recipes.recipe_files": ["recipes", "shapes"],
    "recipes.resolve": ["gpus_of", "trained_arms"],
    "recipes.run": ["prompt_of"],
    "recipes.schema": ["MethodsFile", "Part", "ProtocolFile", "SettingsFile", "ShapesFile"],
    "study.miniature.runs": ["path_of", "read"],
    "target.hyperparameters": ["Hyperparameter"],
    "target.types": ["Term"],
    "teacher.cache.contents": ["bytes_per_token", "keep_of", "key_of", "tokens_in"],
    "teacher.cache.format": ["excerpt", "manifest_json", "shard_name", "sidecar_name", "to_json"],
    "teacher.cache.reader": ["unknown"],
    "teacher.served.wire": ["pack_answer", "pack_question"],
}
"""Public functions and classes without a docstring, by module. The table only gets shorter."""


@pytest.mark.parametrize("module", modules())
def test_public_functions_and_classes_have_a_docstring(module: str):
    public = {name: node for name, node in definitions(modules()[module]).items() if not name.startswith("_")}
    silent = {name for name, node in public.items() if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not _says(node)}
    assert silent <= set(SILENT.get(module.removeprefix("qtarget."), ()))


def test_modules_have_a_docstring():
    assert {module for module, tree in modules().items() if tree.body and not ast.get_docstring(tree)} == set()


def _says(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """By a docstring, or as a command by its help."""
    decorators = [one for one in node.decorator_list if isinstance(one, ast.Call)]
    return bool(ast.get_docstring(node) or any(k.arg == "help" for one in decorators for k in one.keywords))
