"""Models whose vocabulary is an end and two words, so that everything they can say can be written down."""

import itertools

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from prompt2model.batches import Codec
from prompt2model.student import LocalModel

END, A, B = WORDS = range(3)
LONGEST = 3
PADDED = 5
"""Size of the embeddings, which is more than the tokenizer's."""

ANSWERS = tuple(
    answer
    for length in range(1, LONGEST + 1)
    for answer in itertools.product(WORDS, repeat=length)
    if END not in answer[:-1] and (answer[-1] == END or length == LONGEST)
)
"""Every answer that ends by itself or at the limit."""


def speaker(architecture: str, seed: int) -> LocalModel:
    """A model of one layer whose weights leave its words neither equally likely nor certain."""
    words = Tokenizer(models.WordLevel({"</s>": END, "a": A, "b": B}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="a")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _llama() if architecture == "decoder" else _t5()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6 if architecture == "decoder" else 0.15)
        model.get_output_embeddings().weight.mul_(2)
    return LocalModel(model.eval(), Codec(tokenizer, architecture), name=f"speaker {seed}")


def log_probabilities(model: LocalModel, prompt: tuple[int, ...], answer: tuple[int, ...], temperature: float = 1.0):
    """Of every word at every place of the answer, in float64, without cache or padding. -> (len(answer), 3)"""
    if model.codec.architecture == "decoder":
        logits = model.model(input_ids=torch.tensor([[*prompt, *answer[:-1]]])).logits[0, len(prompt) - 1 :]
    else:
        start = torch.tensor([[model.codec.start_token, *answer[:-1]]])
        logits = model.model(input_ids=torch.tensor([prompt]), decoder_input_ids=start).logits[0]
    return (logits[:, : len(WORDS)].double() / temperature).log_softmax(-1)


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=PADDED,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=END,
        )
    )


def _t5() -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=PADDED,
            d_model=8,
            d_kv=4,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.3,
            eos_token_id=END,
            pad_token_id=END,
            decoder_start_token_id=END,
        )
    )
