"""All sources of data; importing this module registers them."""

from __future__ import annotations

from assay.data.archive import npz
from assay.data.embedded import breast_cancer, digits, iris, wine
from assay.data.generators import blobs, circles, five_class, moons
from assay.data.idx import idx
from assay.data.images import images
from assay.data.openml import openml
from assay.data.sheets import sheets
from assay.data.stored import adult, cifar10, cifar100, fashion_mnist, gss, mnist, steak
from assay.data.table import csv_table

__all__ = [
    "adult",
    "blobs",
    "breast_cancer",
    "cifar10",
    "cifar100",
    "circles",
    "csv_table",
    "digits",
    "fashion_mnist",
    "five_class",
    "gss",
    "idx",
    "images",
    "iris",
    "mnist",
    "moons",
    "npz",
    "openml",
    "sheets",
    "steak",
    "wine",
]
