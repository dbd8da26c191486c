"""Numbers as text: durations, percentages, counts, sizes."""

import datetime
import math

THIN_SPACE = "\u202f"
MISSING = "\u2013"


def duration(seconds: float) -> str:
    """Returns a duration as `0.42 s`, `8.1 s`, `1 min 03 s` or `2 h 05 min`.

    Args:
      seconds: not negative; if they are not finite, the result is a dash.
    """
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def date_and_time(seconds: float) -> str:
    """Returns a time (seconds since 1970) for people, as `2026-05-01 12:00 UTC`."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent(fraction: float) -> str:
    """Returns a fraction in [0, 1] as whole percent; 99.7 % stays below 100 and 0.3 % above 0."""
    if not math.isfinite(fraction):
        return MISSING
    whole = round(100 * fraction)
    if whole == 100 and fraction < 1:
        return f"{100 * fraction:.1f} %" if fraction < 0.9995 else ">99.9 %"
    if whole == 0 and fraction > 0:
        return f"{100 * fraction:.1f} %" if fraction > 0.0005 else "<0.1 %"
    return f"{whole} %"


def count(value: int) -> str:
    """Returns an integer in groups of three digits, from five digits on."""
    plain = f"{value:,}" if abs(value) >= 10_000 else str(value)
    return plain.replace(",", THIN_SPACE)


def size(byte_count: int) -> str:
    """Returns a number of bytes in B, KB, MB, GB or TB, powers of 1000."""
    if byte_count < 1000:
        return f"{byte_count} B"
    value, unit = byte_count / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def number(value: float, digits: int = 3) -> str:
    """Returns a number with `digits` significant digits, without an exponent where that is short enough."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent > 6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}"
    if exponent >= digits - 1:
        return count(round(value))
    return f"{value:.{digits - 1 - exponent}f}"
