"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchcollide.errors import ConfigError
from patchcollide.formats import format_seconds, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8GB", 8_000_000_000),
        ("8 GB", 8_000_000_000),
        ("500MB", 500_000_000),
        ("6GiB", 6 * 2**30),
        ("1.5e9", 1_500_000_000),
        ("1.5TiB", 3 * 2**39),
        ("2kB", 2000),
        ("2KB", 2000),
        ("17B", 17),
        ("17", 17),
        ("0.1GB", 100_000_000),
    ],
)
def test_sizes_are_read(text, num_bytes):
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "text",
    ["", "GB", "8Gb", "8gb", "8  GB", " 8GB", "8GB ", "-8GB", "+8GB", "0", "0.4B", "8,5GB", "1e999",
     "8GBB", "nan", "inf", "1_000", "٨GB", "8%", "1EB"],
)  # fmt: skip
def test_other_texts_are_refused_with_examples(text):
    with pytest.raises(ConfigError, match=r"expected a number of bytes above 0 .*such as 8GB"):
        parse_size(text)


@given(st.integers(1, 10**17))
def test_a_written_size_is_read_as_no_less_and_hardly_more(num_bytes):
    assert num_bytes <= parse_size(format_size(num_bytes)) <= num_bytes * 1.011 + 1


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(1, "1B"), (999, "999B"), (1000, "1.00kB"), (999_001, "1.00MB"), (19_277_518_848, "19.3GB")],
)
def test_sizes_are_written_in_three_digits(num_bytes, text):
    assert format_size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.524, "0.52 s"), (3.14, "3.1 s"), (38.2, "38 s"), (480, "8.0 min"), (7200, "2.0 h")],
)
def test_durations_are_written_in_the_unit_that_fits(seconds, text):
    assert format_seconds(seconds) == text
