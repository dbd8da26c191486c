"""Files of records with random access, each record checked by its hash."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path
from rlgen.data.shards import file_sha256

# One record a group: a reader decodes nothing but what it was asked for. JPEG does not compress further.
_WRITE = "group_size:1,uncompressed,max_parallelism:1"
_READ = "readahead_buffer_size:0,max_parallelism:0"


def write_records(path: Path, records: Iterable[bytes]) -> tuple[int, str]:
    """Writes a file, whole or not at all; returns the bytes of its records and the SHA-256 of the file."""
    from array_record.python.array_record_module import ArrayRecordWriter

    size = 0
    with atomic_path(path) as temporary:
        # The writer reports a refusing disk as RuntimeError, with the reason in its words.
        try:
            writer = ArrayRecordWriter(str(temporary), _WRITE)
            for record in records:
                writer.write(record)
                size += len(record)
            writer.close()
        except RuntimeError as error:
            raise _refusal(error, path) from error
        digest = file_sha256(temporary)
    return size, digest


class RecordFile:
    """A file open for reading; a context manager."""

    def __init__(self, path: Path):
        """`UserError` if the file is missing or truncated."""
        from array_record.python.array_record_module import ArrayRecordReader

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; export the dataset again")
        try:
            self._reader = ArrayRecordReader(str(path), _READ)
            whole = self._reader.ok()
        except RuntimeError as error:
            raise UserError(f"{path}: not a readable array_record file ({_first(error)}); export it again") from error
        if not whole:
            raise UserError(f"{path}: not a readable array_record file, damaged at its end; export it again")

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    def __len__(self) -> int:
        return self._reader.num_records()

    def read(self, index: int, episode: str = "") -> bytes:
        """A record; `UserError` naming the file and `episode` if it is damaged."""
        try:
            return self._reader.read([index])[0]
        except (RuntimeError, IndexError) as error:
            where = f"{self.path}: record {index} is damaged" + (f" (episode {episode})" if episode else "")
            raise UserError(f"{where}, {_first(error)}; export the dataset again") from error


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refusal(error: RuntimeError, path: Path) -> Exception:
    """The `OSError` that the writer's message tells of, where it does."""
    import errno

    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
        if os.strerror(code).lower() in str(error).lower():
            return OSError(code, os.strerror(code), str(path))
    return UserError(f"cannot write {path}: {_first(error)}; then run the same command again")
