"""The settings in which two configurations differ."""

from typing import Any


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns the settings that two configurations do not share, as `name (before -> now)`.

    Args:
      before: a configuration as JSON, or a part of one.
      now: another.
      prefix: what precedes the names.
    """
    found = []
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif (list(old) if isinstance(old, tuple) else old) != (list(new) if isinstance(new, tuple) else new):
            found.append(f"{prefix}{key} ({old} -> {new})")
    return found
