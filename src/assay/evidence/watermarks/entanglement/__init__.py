"""Entanglement of marks with the task: the loss that makes it, the measures that show it."""
