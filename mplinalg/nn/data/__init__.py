"""Data for training: files read with care, and batches.

- `tables`: `read_csv`; `images`: `image_folder`; `idx`: `read_idx`, `mnist_idx`; `digits`.
- `loader`: `DataLoader`.
- `labels`: what numbers of classes may be.

Nothing is fetched from anywhere. Whatever is wrong with a file is a `ValueError` that names it.
"""

from .digits import digits
from .idx import mnist_idx, read_idx
from .images import image_folder
from .labels import check_labels
from .loader import DataLoader
from .tables import read_csv

__all__ = [
    "DataLoader", "check_labels", "digits", "image_folder", "mnist_idx", "read_csv", "read_idx",
]  # fmt: skip
