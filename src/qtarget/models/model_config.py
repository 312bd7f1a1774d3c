"""Whether a folder's configuration describes a model at all, before anything is read after it."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_SAID_LATER = (OSError, ValueError, ImportError, RuntimeError)
"""What loading says in words of its own, or what a model that computes while it is made has against tensors without
numbers."""


def check_model_config(folder: str) -> None:
    """Refuse a local folder whose `config.json` holds values of which transformers makes no model.

    Raises:
        ValueError: names the file and what transformers says of it.
    """
    file = Path(folder).expanduser() / "config.json"
    if not file.is_file():
        return
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)  # or it asks the user
        if not all(isinstance(name, str) for name in config.architectures or []) or isinstance(
            config.architectures, str
        ):
            raise TypeError(f"architectures is {config.architectures!r}, and no list of names")
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config, attn_implementation="eager")  # no kernel of the hub is fetched
    except _SAID_LATER:
        return
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file} holds a value of which transformers makes no model ({type(error).__name__}: {said}); mend it, or "
            "take the model's folder as it was published."
        ) from error
