"""Data: validated sets, committed splits, sources, augmentation."""
