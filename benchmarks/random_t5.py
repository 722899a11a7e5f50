"""Whether an encoder-decoder that knows nothing learns a task from its rows: ROUGE-L and chrF of a small random T5.

    python benchmarks/random_t5.py TRAIN.jsonl TEST.jsonl [EPOCHS]

The T5 (4 + 4 layers, 256 wide, a tokenizer made from the rows) is written to a folder and then trained and measured as
any base model is, by the product's own stages.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from prompt2model.config import EvaluateConfig, RetrieveConfig, SplitConfig, TrainConfig
from prompt2model.records import Found, Made, TaskSpec
from prompt2model.rows import read_rows
from prompt2model.stages.evaluate import evaluate
from prompt2model.stages.split import split
from prompt2model.stages.train import train

TASK = TaskSpec(instruction="Write what the data says.", kind="generation", metric="rouge_l")


def main(train_file: str, test_file: str, epochs: float) -> None:
    rows = read_rows(train_file, TASK, RetrieveConfig()).examples
    splits = split(TASK, Found(base="", examples=rows), Made(), SplitConfig(test_data=test_file))
    with tempfile.TemporaryDirectory() as folder:
        base = save(Path(folder) / "t5", [text for row in rows for text in (row.input, row.output)])
        config = TrainConfig(epochs=epochs, learning_rate=1e-3, patience=0, validations_per_epoch=1, batch_rows=32)
        started = time.perf_counter()
        student = train(TASK, splits, str(base), config, folder=Path(folder) / "student")
        seconds = time.perf_counter() - started
        report = evaluate(TASK, splits, student, EvaluateConfig(max_rows=200, max_new_tokens=80), teacher=None)
    found = {
        one.who: {score.metric: round(100 * score.value, 1) for score in one.scores} | {"n": one.n}
        for one in report.measured
    }
    found["training"] = {
        "parameters": student.parameters,
        "seconds": round(seconds),
        "tokens_per_second": round(student.tokens_per_second),
        "first_loss": round(student.losses[0], 2),
        "last_loss": round(student.losses[-1], 2),
    }
    print(json.dumps(found, indent=1))


def save(folder: Path, texts: list[str]) -> Path:
    """A T5 with random weights, and a byte-level tokenizer of 2,000 tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=sorted(alphabet))
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    )
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=256,
        d_kv=64,
        d_ff=1024,
        num_layers=4,
        num_heads=4,
        eos_token_id=1,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 10.0)
