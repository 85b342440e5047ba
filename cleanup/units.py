# SPDX-License-Identifier: MIT
"""The one way to write sizes and durations, on the command line and in configuration.

This imports nothing but the standard library, so that every part of the package can use it.
"""

import re
from collections.abc import Mapping

# Both tables go from the smallest unit to the largest: `_in_largest_unit` takes the last that
# fits.
SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}


def parse_size(text: str) -> int:
    """Return a size in bytes.

    >>> parse_size("64g")
    68719476736

    A size is a whole number with one of k, m, g and t behind it, which are powers of 1024. They may
    be capitals, and B or iB may follow. A bare number is bytes. Raises ValueError for all else.
    """
    found = re.fullmatch(r"([0-9]+)(?:([kmgt])(?:i?b)?|b)?", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no size: give a number with k, m, g or t, such as 64g")
    return int(found[1]) * SIZES[found[2] or ""]


def format_size(size: int) -> str:
    """Return a size as `parse_size` takes it, in the largest unit that shows it exactly.

    >>> format_size(68719476736)
    '64g'
    """
    return _in_largest_unit(size, SIZES)


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds.

    >>> parse_duration("500us")
    500000

    A duration is a whole number and one of ns, us, ms, s, min and h. Raises ValueError for anything
    else, a bare number included: nobody could tell what unit was meant.
    """
    found = re.fullmatch(r"([0-9]+)\s*([a-zµμ]*)", text.strip().lower())
    unit = "" if found is None else found[2].replace("µ", "u").replace("μ", "u")
    if found is not None and not unit:
        raise ValueError(f"{text!r} has no unit: write 500us, 2ms or 1s")
    if found is None or unit not in DURATIONS:
        names = ", ".join(DURATIONS)
        raise ValueError(f"{text!r} is no duration: give a number and one of {names}: 500us")
    return int(found[1]) * DURATIONS[unit]


def format_duration(nanoseconds: int) -> str:
    """Return a duration as `parse_duration` takes it, in the largest unit that shows it exactly.

    >>> format_duration(2_000_000)
    '2ms'
    """
    return _in_largest_unit(nanoseconds, DURATIONS)


def _in_largest_unit(number: int, units: Mapping[str, int]) -> str:
    """Write a number in the largest unit that shows it exactly, and 0 in the smallest."""
    exact = [unit for unit, factor in units.items() if number % factor == 0]
    unit = exact[-1 if number else 0]
    return f"{number // units[unit]}{unit}"
