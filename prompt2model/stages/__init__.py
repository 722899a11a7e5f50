"""The stages of a run: one file and one function each, `stage(*inputs, config) -> record`. None imports another."""
