"""Sizes and durations as people write them."""

import pytest

from leasehold.quantity import duration_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("64KiB", 64 << 10),
        ("1.5GiB", 3 << 29),
        ("100", 100),
        (100, 100),
        ("2 TiB", 2 << 40),
        ("1kb", 1000),
        ("9223372036854775807", (1 << 63) - 1),
    ],
)
def test_sizes_are_exact(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", "0", "1.5", "0.3KiB", "1QiB", "9223372036854775808", "99999999TiB", "1e3", True, None, 1.0],
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"512MiB|2\^63"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("5m", 300), ("2h", 7200), (1.5, 1.5), ("0", 0)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1y", float("inf"), float("nan"), -1, None, True])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_texts_read_back():
    assert size_text(512 << 20) == "512 MiB"
    assert parse_size(size_text(3 << 29)) == 3 << 29
    assert [duration_text(seconds) for seconds in (0.85, 12, 180, 7200, 172800)] == [
        "850 ms",
        "12 s",
        "3 min",
        "2 h",
        "2 d",
    ]
