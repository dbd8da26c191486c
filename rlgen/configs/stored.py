"""Configurations as JSON, as they are stored with runs and fleets."""

import dataclasses
from typing import Any, get_type_hints

from rlgen.configs.ranges import is_one_of, number_fields
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError


def to_json(config: Config) -> dict[str, Any]:
    """Returns the configuration as JSON."""
    return dataclasses.asdict(config)


def from_json(value: dict[str, Any]) -> Config:
    """Returns the configuration that `to_json` of this version wrote; see `aliases.upgrade` for older ones.

    Raises:
      UserError: a key or value that this version does not know.
    """
    return _build(Config, value, "config")


def _build(kind: type, value: dict[str, Any], name: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if not isinstance(value, dict):
        raise UserError(f"{name} is {type(value).__name__}, expected its settings by name")
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise UserError(f"{name} has unknown keys {unknown}; it was written by another version")
    hints, built = get_type_hints(kind), {}
    for key, entry in value.items():
        default = fields[key].default_factory
        if isinstance(default, type) and dataclasses.is_dataclass(default):
            built[key] = _build(default, entry, f"{name}.{key}")
            continue
        built[key] = tuple(entry) if isinstance(entry, list) else entry
        # Numbers are checked by the class itself.
        if key not in number_fields(kind) and not is_one_of(hints[key], entry):
            raise UserError(f"{name}.{key} is {entry!r:.60}, which is none of its values")
    return kind(**built)
