"""Extraction: attacks that make a copy of a model."""
