"""Who answers: a model in memory (transformers, vLLM), or a server."""
