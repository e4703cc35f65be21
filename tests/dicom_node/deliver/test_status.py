import pytest

from dicom_node.deliver.status import classify


@pytest.mark.parametrize(
    ("status", "delivered", "retryable"),
    [
        (0x0000, True, False),
        (0xB000, True, False),
        (0xB006, True, False),
        (0xB007, True, False),
        (0x0107, True, False),
        (0x0111, True, False),
        (0xA700, False, True),
        (0xA7FF, False, True),
        (0x0110, False, True),
        (0xA900, False, False),
        (0xC000, False, False),
        (0xC123, False, False),
        (0x0122, False, False),
        (0x0124, False, False),
        (None, False, True),
    ],
)
def test_status_means_what_the_standard_says(status: int | None, delivered: bool, retryable: bool) -> None:
    got = classify(status)
    assert (got.delivered, got.retryable) == (delivered, retryable)
    if status is not None:
        assert f"0x{status:04X}" in got.status
