"""The paper's ten settings (arXiv 2606.11189) as recipes: every value with its source, what it costs, and a run."""
