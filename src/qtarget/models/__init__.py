"""Hugging Face causal language models, whatever they are used for: as students, teachers or under evaluation.

loading          from a name and keyword arguments to a model, and the tokenizer beside it
causal_lm        a model as a backbone and an output layer
sharding         a frozen model cut over the ranks of a run
adapters         a second LoRA adapter on the student's base
identity         hashes that tell models, tokenizers and chat templates apart
weights_digest   sha256 over every byte of a model in memory
model_seal       whether a folder that qtarget sealed is as it was written
drawn_weights    weights that are in no file of a model, or in no place of it
shard_index      the files that an index of weights or a configuration may name
weight_files     arguments that keep `from_pretrained` to files that were looked at
named_kernels    kernels of the hub that a configuration names
gguf_file        a GGUF file as a folder, converted once (gguf_conversion, gguf_tokenizer)
head_check       whether logits are what the output layer makes of hidden states
logit_steps      scales and soft-caps of model families, by their names
balancing        the load-balancing loss of a mixture of experts
same_tokens      whether two tokenizers give tokens the same ids
template_errors  errors that come from a chat template
"""
