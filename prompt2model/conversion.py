"""The embedded model's 4-bit GGUF file, turned into a folder that `from_pretrained` loads."""

import logging
from pathlib import Path
from typing import Any

from prompt2model import progress

SPECIAL_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}

logger = logging.getLogger(__name__)


def convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file of SmolLM2 as a folder of safetensors that plain transformers loads.

    In bfloat16: that is what SmolLM2 was released in, and beside the 4 bits that the values come from it changes
    the next token's distribution by about 1e-4 nats. transformers refuses to save a model that it loaded from GGUF,
    so the weights are copied into a new one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    logger.info("Converting %s; this is done once and takes about a minute.", gguf.name)
    with progress.task(f"converting {gguf.name}, once"), progress.quiet():
        tokenizer = _tokenizer(gguf)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = type(read.config)(**_own_settings(read.config.to_dict()))
        model = type(read)(config).to(torch.bfloat16)
        model.load_state_dict(read.state_dict())
        model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=2)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _own_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the traces of the file that it was read from."""
    traces = ("quantization_config", "_name_or_path", "_model_name_or_path", "transformers_version")
    return {key: value for key, value in config.items() if key not in traces}


def _tokenizer(gguf: Path) -> Any:
    """The tokenizer with what the GGUF format does not say: digits are split, and the context has an end."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, model_max_length=8192, **SPECIAL_TOKENS)
    split = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.backend_tokenizer.pre_tokenizer = split
    return tokenizer
