"""Distillation methods, one file each. A plug-in here is a module with

    NEEDS           abilities that the teacher must have while the student trains, () for none
    ARCHITECTURES   of students it can train: ("decoder", "encoder-decoder")
    Options         a pydantic model of the method's own settings
    rows(examples, codec, max_length, options) -> list[Row]     what the student is trained on, tokenised
    loss(model, batch, options) -> Tensor                       (), nats SUMMED over the counted tokens, weights applied

The loop divides by the summed weight of the whole optimiser step, over all micro-batches and processes.
"""
