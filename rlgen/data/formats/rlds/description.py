"""The two JSON files of a dataset that tensorflow_datasets wrote, read without tensorflow_datasets.

`dataset_info.json` has the splits with the lengths of their shards, `features.json` a tree of features, each with the
Python class that reads it. tensorflow_datasets imports the modules of these classes, so that a dataset of others could
name any code; here they are names, and only those of tensorflow_datasets' own features are taken.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.foreign.json_parts import JsonPart, json_text, open_json
from rlgen.data.images import LARGEST_SIDE
from rlgen.data.shards import MOST_EPISODES, MOST_SHARDS

INFO, FEATURES = "dataset_info.json", "features.json"
ADVICE = "fetch or export the dataset again"
FILE_FORMAT = "tfrecord"
_CLASSES = "tensorflow_datasets.core.features."
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_DIGITS = 5  # of a shard's number
_MOST_FEATURES, _DEEPEST = 1000, 50
# Classes whose features are nested, and the member of their content that has the inner features.
_NESTED = ("Sequence", "Dataset", "Optional")


@dataclass(frozen=True)
class Feature:
    """A feature of a record that is not nested.

    Attributes:
      kind: name of its class without the module, such as `Image`, `Tensor` or `Text`.
      shape: numbers in each direction, None where it is not declared; empty for a scalar.
      dtype: as declared; empty if it is not.
      encoding: of a tensor; `none` or empty if its numbers are stored as they are.
    """

    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = ""
    encoding: str = ""


@dataclass(frozen=True)
class ShardFile:
    """A shard of a split.

    Attributes:
      file: its path in the dataset's folder.
      length: number of its records.
    """

    file: str
    length: int


@dataclass(frozen=True)
class RldsDescription:
    """A dataset as its two JSON files describe it.

    Attributes:
      name: of the dataset.
      splits: shards of each split, by its name.
      features: of one record, by their path such as `steps/observation/state`.
    """

    name: str
    splits: Mapping[str, tuple[ShardFile, ...]]
    features: Mapping[str, Feature]


def read_description(directory: Path) -> RldsDescription:
    """Reads both files.

    Raises:
      UserError: one is missing or damaged, names a class that is none of tensorflow_datasets' features, or a file
        outside of the dataset's folder.
    """
    info = open_json(directory / INFO, ADVICE)
    file_format = info.optional("fileFormat", "file_format")
    if file_format is not None and file_format.text() != FILE_FORMAT:
        raise file_format.error(f"{FILE_FORMAT!r}, the format of RLDS datasets that can be read")
    name = info.member("name").text(200)
    splits = {}
    for split in (info.optional("splits") or JsonPart([], info.file)).elements(100):
        splits[split.member("name").text(200)] = tuple(_shards(split, name))
    tree = open_json(directory / FEATURES, ADVICE)
    _check_classes(tree)
    features = dict(_leaves(tree, "", 0))
    return RldsDescription(name, splits, features)


def _shards(split: JsonPart, name: str) -> Iterator[ShardFile]:
    found = split.optional("shardLengths", "shard_lengths")
    lengths = [] if found is None else [part.integer(0, MOST_EPISODES) for part in found.elements(MOST_SHARDS)]
    template = split.optional("filepathTemplate", "filepath_template")
    pattern = _TEMPLATE if template is None else template.text(1000) or _TEMPLATE
    count = max(_DIGITS, len(str(len(lengths))))
    total = f"{len(lengths):0{count}d}"
    known = {"DATASET": name, "SPLIT": split.member("name").text(), "FILEFORMAT": FILE_FORMAT, "NUM_SHARDS": total}
    for index, length in enumerate(lengths):
        number = f"{index:0{count}d}"
        words = {**known, "SHARD_INDEX": number, "SHARD_X_OF_Y": f"{number}-of-{total}"}
        file = re.sub(r"\{(\w+)\}", lambda match, words=words: words.get(match[1], match[0]), pattern)
        place = f"{split.place}.filepathTemplate"
        yield ShardFile(JsonPart(file, split.file, place, ADVICE).path(), length)


def _check_classes(tree: JsonPart) -> None:
    """Checks that no part of a tree, at any depth, names a class that is none of tensorflow_datasets' features."""
    waiting: list[JsonPart] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part.value, list):
            waiting += part.elements(_MOST_FEATURES)
        elif isinstance(part.value, dict):
            members = part.members()
            for key in ("pythonClassName", "python_class_name", *(["type"] if "content" in members else [])):
                if key in members and isinstance(members[key].value, str):
                    _check_class(members[key])
            waiting += [_parsed(member) if key in ("json", "content") else member for key, member in members.items()]


def _check_class(part: JsonPart) -> None:
    if not re.fullmatch(re.escape(_CLASSES) + r"\w+(\.\w+)*", part.text()):
        raise part.error(
            f"a class in {_CLASSES.rstrip('.')}, for others' code is not run; write the dataset with those"
        )


def _leaves(node: JsonPart, path: str, depth: int) -> Iterator[tuple[str, Feature]]:
    """Yields path and feature of everything below a node that is not nested."""
    if depth > _DEEPEST:
        raise UserError(f"{node.file}: features are nested more than {_DEEPEST} deep; {ADVICE}")
    name, content = _class_and_content(node)
    if name == "FeaturesDict":
        inner = content.optional("features") or content
        for key, child in inner.members(_MOST_FEATURES).items():
            yield from _leaves(child, f"{path}/{key}" if path else key, depth + 1)
    elif name in _NESTED:
        yield from _leaves(content.member("feature"), path, depth + 1)
    else:
        yield path, _feature(name, content)


def _class_and_content(node: JsonPart) -> tuple[str, JsonPart]:
    """Returns the name of a node's class, and its content, as versions of tensorflow_datasets wrote them."""
    old = node.optional("type")
    if old is not None:  # before 4.5: {"type": class, "content": {...}}
        content = node.optional("content") or JsonPart({}, node.file, node.place, node.advice)
        return old.text().rpartition(".")[2], _parsed(content)
    name = node.member("pythonClassName", "python_class_name").text().rpartition(".")[2]
    contents = {key: member for key, member in node.members().items() if isinstance(member.value, dict)}
    contents.pop("valueRange", None)
    if len(contents) > 1:
        raise node.error("one content")
    [content] = contents.values() or [JsonPart({}, node.file, node.place, node.advice)]
    inner = content.optional("json")
    return name, content if inner is None else _parsed(inner)


def _feature(name: str, content: JsonPart) -> Feature:
    def text(*names: str) -> str:
        found = content.optional(*names)
        return "" if found is None else str(found.value)[:100]

    encoding = text("encoding").lower()
    return Feature(name, _shape(content), text("dtype"), "" if encoding == "none" else encoding)


def _shape(content: JsonPart) -> tuple[int | None, ...]:
    found = content.optional("shape")
    if found is not None and isinstance(found.value, dict):
        found = found.optional("dimensions")
    if found is None:
        return ()
    sizes = [None if part.value is None else part.integer(-1, 1 << 40) for part in found.elements(20)]
    return tuple(None if size is None or size < 0 else size for size in sizes)


def _parsed(part: JsonPart) -> JsonPart:
    """Returns content that is JSON in a text, parsed."""
    if not isinstance(part.value, str):
        return part
    return json_text(part.value, part.file, part.place.removeprefix("."), part.advice)


def image_shape(feature: Feature, where: str) -> tuple[int, int] | None:
    """Returns height and width that an image's feature declares; None if it does not.

    Args:
      feature: of the image.
      where: file and key.

    Raises:
      UserError: it is no image of bytes, or too large.
    """
    if feature.kind != "Image" or feature.dtype not in ("", "uint8"):
        raise UserError(f"{where} is {feature.kind} {feature.dtype}, expected an Image of uint8; convert the dataset")
    height, width = [*feature.shape, None, None][:2]
    if height is None or width is None:
        return None
    if not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise UserError(
            f"{where} has images of {(height, width)} pixels, expected 1 to {LARGEST_SIDE} along each side; {ADVICE}"
        )
    return height, width
