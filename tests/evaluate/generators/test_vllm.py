"""vLLM where it is not installed. What it is called with cannot be tried without it."""

import importlib.util

import pytest

from qtarget.evaluate.generators.vllm import VLLM


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_the_library_the_line_to_install_it_is_said():
    with pytest.raises(ImportError, match=r"pip install 'qtarget\[train,vllm\]'.*--generator http"):
        VLLM("model")
