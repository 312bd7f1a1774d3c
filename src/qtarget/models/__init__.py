"""Hugging Face causal language models, whatever they are used for: as students, teachers or under evaluation.

loading       from a name and keyword arguments to a model, and the tokenizer beside it
causal_lm     a model as a backbone and an output layer
sharding      a frozen model cut over the ranks of a run
adapters      a second LoRA adapter on the student's base
identity      hashes that tell models, tokenizers and chat templates apart
same_tokens   whether two tokenizers give tokens the same ids
"""
