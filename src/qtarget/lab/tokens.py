"""The worlds' tokenizer: 64 whole words, in the format every Hugging Face tool reads."""

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qtarget.lab.worlds import CONNECTIVES, MODULUS, OPERATORS

VOCABULARY_SIZE = 64
PAD, UNKNOWN, END = SPECIAL = ("<pad>", "<unk>", "<eos>")
PAD_ID, END_ID = SPECIAL.index(PAD), SPECIAL.index(END)


def vocabulary() -> list[str]:
    """Tokens in the order of their ids: special, digits, operators, words, then reserved up to 64."""
    used = [*SPECIAL, *map(str, range(MODULUS)), *OPERATORS, "=", "?", "answer", *CONNECTIVES]
    return used + [f"<reserved_{i}>" for i in range(VOCABULARY_SIZE - len(used))]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer. Pieces never merge, so a prompt's ids begin those of its row."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    pieces = pre_tokenizers.Split(Regex("[0-9]+|[a-z]+|[^0-9a-z]"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pieces])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        model_max_length=64,
    )
