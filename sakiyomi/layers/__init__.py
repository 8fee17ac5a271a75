"""Layers that more than one model uses."""

from sakiyomi.layers.spatial import InverseSpatialSoftmax, SpatialSoftmax

__all__ = ["InverseSpatialSoftmax", "SpatialSoftmax"]
