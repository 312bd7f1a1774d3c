"""Generators, which draw completions: from a model loaded here (transformers, vLLM), or from a server."""
