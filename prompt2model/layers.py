"""A smaller model made of some of a larger one's layers: an initialisation for a student.

Sanh et al., 2019 (DistilBERT), https://arxiv.org/abs/1910.01108, section 3.
"""

from pathlib import Path
from typing import Any

from torch import nn

from prompt2model.errors import WeightsError
from prompt2model.student import load, save

STACKS = ("layers", "h", "block", "blocks")
"""What models call the list of their layers."""

COUNTS = {
    "decoder": ("num_decoder_layers", "decoder_layers", "num_hidden_layers"),
    "encoder": ("encoder_layers", "num_layers"),
}
"""What configurations call its length, the first that they have."""


def save_every(source: Path, every: int, folder: Path) -> Path:
    """A model of the first layer of `source` and every n-th from there, with all else, saved in `folder`.

    The encoder and the decoder of an encoder-decoder are thinned alike. Raises WeightsError for a model whose layers
    are not a plain list.
    """
    model, codec = load(source, precision="float32")
    keep_every(model, every)
    save(model, codec, folder)
    return folder


def keep_every(model: Any, every: int) -> None:
    """Leave out layers in place. The model has to be saved and loaded before it writes: layers know their numbers."""
    config = model.config
    if config.is_encoder_decoder:
        _thin(model.get_encoder(), config, COUNTS["encoder"], every)
    kept = _thin(model.get_decoder(), config, COUNTS["decoder"], every)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in kept]


def _thin(body: Any, config: Any, counts: tuple[str, ...], every: int) -> range:
    """The layers that stay."""
    name = next((name for name in STACKS if isinstance(getattr(body, name, None), nn.ModuleList)), "")
    count = next((count for count in counts if hasattr(config, count)), "")
    if not name or not count:
        raise WeightsError(
            f"The layers of a {type(body).__name__} are not known.", hint="Train the whole model: leave out train.init."
        )
    layers = getattr(body, name)
    kept = range(0, len(layers), every)
    setattr(body, name, nn.ModuleList([layers[layer] for layer in kept]))
    setattr(config, count, len(kept))
    return kept
