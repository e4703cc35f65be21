from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import FileDataset

from dicom_node.demo import modality

DATA = Path(__file__).parents[2] / "data" / "dicom"


@pytest.fixture(scope="session")
def reference() -> np.ndarray:
    """A real radiograph's grey levels, [512, 512]."""
    return np.asarray(Image.open(DATA / "ref" / "B512.png").convert("L"))


@pytest.fixture
def radiograph(reference: np.ndarray) -> FileDataset:
    """A valid DX object of it, smaller; tests change what they are about."""
    return modality.dataset_of(np.ascontiguousarray(reference[::4, ::4]), modality.Header())


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset, in its own transfer syntax."""

    def write(dataset: FileDataset, name: str = "x.dcm") -> Path:
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
