"""A teacher behind somebody else's inference engine, vLLM or SGLang, which answers in its own JSON.

dialect          what an engine is asked and answers, in the words of all
vllm_dialect     vLLM's `/v1/completions` with `prompt_logprobs`
sglang_dialect   SGLang's `/generate` with `return_logprob`
scored_tokens    from what stands at each token of an answer to what is kept of it
engine_server    requests to such a server, repeated while it is away, and what its refusals mean
handshake        what is found out about a server before the first row
engine_teacher   `EngineTeacher`, the twin of `served.client.ServedTeacher`
"""
