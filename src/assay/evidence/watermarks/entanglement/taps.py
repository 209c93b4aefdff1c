"""Activations of named layers, where marks look for them; they are read by `assay.nets.taps`."""

from assay.nets.taps import activations, default_taps, tapped

__all__ = ["activations", "default_taps", "tapped"]
