"""Chat templates in the manner of well-known families, and a tokenizer of bytes that knows their signs."""

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from qtarget.data.chat.conversation import ChatTemplate, Conversation
from qtarget.data.chat.message_search import MessageSearch

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role in ['system', 'user'] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant«\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n»{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen2.5: a system prompt of its own, other roles than these are written as nothing, marks hold the line break."""
THINKING = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% set parts = m.content.split('</think>') %}{% if loop.index0 > ns.last %}<think>\n"
    "{{ (m.reasoning_content or (parts[0] if parts | length > 1 else '')) | replace('<think>', '') | trim }}\n"
    "</think>\n\n"
    "{% endif %}{{ parts[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen3: earlier turns lose what the assistant thought, and the last one gets an empty thought where it has none."""
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if m.role == 'assistant' %}«{{ m.content | trim }}<|eot_id|>»{% else %}"
    "{{ m.content | trim }}<|eot_id|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}<start_of_turn>model\n«{{ m.content | trim }}<end_of_turn>\n»"
    "{% else %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% set talk = messages[1:] if messages[0].role == 'system' else messages %}{% for m in talk %}"
    "{% if m.role == 'user' %}[INST] {% if loop.revindex <= 2 and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n\n{% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}« {{ m.content }}{{ eos_token }}»{% endif %}"
    "{% endfor %}"
)
"""No header before an answer, and the system's words in the last of the user's turns."""
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}«{{ m.content }}<|end|>\n»{% else %}"
    "{{ m.content }}<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% else %}"
    "«{{ eos_token }}»{% endif %}"
)
"""An end of the whole text behind the end of the last turn."""
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'system' %}{{ m.content }}{% elif m.role == 'assistant' %}"
    "«<｜Assistant｜>{{ m.content }}{{ eos_token }}»{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)
"""Its marks hold the header, which is not drawn."""
FAMILIES = {
    "chatml": (CHATML, "<|im_end|>", "{}<|im_end|>"),
    "llama": (LLAMA, "<|eot_id|>", "{}<|eot_id|>"),
    "gemma": (GEMMA, "<end_of_turn>", "{}<end_of_turn>"),
    "mistral": (MISTRAL, "</s>", " {}</s>"),
    "phi": (PHI, "<|end|>", "{}<|end|>"),
    "deepseek": (DEEPSEEK, "<｜end▁of▁sentence｜>", "{}<｜end▁of▁sentence｜>"),
}
"""Name: template, end token, and how a learned answer reads."""
SIGNS = ["<|endoftext|>", "<|im_start|>", *(end for _, end, _ in FAMILIES.values()), "<s>", "<|start_header_id|>"]


def plain(source: str) -> str:
    """The template without generation marks."""
    return source.replace("«", "").replace("»", "")


def marked(source: str) -> str:
    """The template with generation marks."""
    return source.replace("«", "{% generation %}").replace("»", "{% endgeneration %}")


def byte_tokenizer(
    template: str | None, end: str = "<|im_end|>", merges: tuple[tuple[str, str], ...] = (), *, words: bool = True
) -> PreTrainedTokenizerFast:
    """A token for every byte, for each merge (within `words`, or across them too) and for each sign."""
    letters = sorted(ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*letters, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(BPE(vocab=vocab, merges=list(merges)))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=words)
    backend.decoder = ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=end,
        bos_token="<s>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SIGNS,
    )
    tokenizer.chat_template = template
    return tokenizer


def search_in(template: str, end: str = "<|im_end|>") -> MessageSearch:
    """A search in what a template renders."""
    return MessageSearch(ChatTemplate(byte_tokenizer(template, end)))


def talk(*turns: tuple[str, str] | dict, **more) -> Conversation:
    """A conversation of `(role, content)` pairs, or of messages with more in them."""
    messages = [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]
    return Conversation.of({"messages": messages, **more})
