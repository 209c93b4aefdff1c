"""Soft nearest neighbour loss, where marks look for it; it lives in `assay.nets.soft_nearest_neighbours`."""

from assay.nets.soft_nearest_neighbours import (
    Distance,
    median_distance,
    pairwise_distances,
    plateau,
    soft_nearest_neighbour_loss,
)

__all__ = ["Distance", "median_distance", "pairwise_distances", "plateau", "soft_nearest_neighbour_loss"]
