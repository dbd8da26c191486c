"""Files of records with random access, written and read through the array_record library, which checks their hashes."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import atomic_path
from rlgen.data.index import damaged_record
from rlgen.data.shards import file_sha256

# A group is one record, so a reader decodes only what it was asked for. JPEG does not compress further.
_WRITE = "group_size:1,uncompressed,max_parallelism:1"
_READ = "readahead_buffer_size:0,max_parallelism:0"


def write_records(path: Path, records: Iterable[bytes]) -> tuple[int, str]:
    """Writes a file, whole or not at all; returns the total size of its records and the SHA-256 of the file."""
    from array_record.python.array_record_module import ArrayRecordWriter

    size = 0
    with atomic_path(path) as temporary:
        # The library reports an error of the disk as a RuntimeError, with the reason in its message.
        try:
            writer = ArrayRecordWriter(str(temporary), _WRITE)
            for record in records:
                writer.write(record)
                size += len(record)
            writer.close()
        except RuntimeError as error:
            raise _disk_error(error, path) from error
        digest = file_sha256(temporary)
    return size, digest


class RecordFile:
    """A file that is open for reading; a context manager."""

    def __init__(self, path: Path):
        """Opens the file.

        Raises:
          UserError: it is missing or truncated.
        """
        from array_record.python.array_record_module import ArrayRecordReader

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; export the dataset again")
        try:
            self._reader = ArrayRecordReader(str(path), _READ)
            whole = self._reader.ok()
        except RuntimeError as error:
            reason = first_line(error)
            raise UserError(f"{path}: not a readable array_record file ({reason}); export it again") from error
        if not whole:
            raise UserError(f"{path}: not a readable array_record file, damaged at its end; export it again")

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._reader.close()

    def __len__(self) -> int:
        return self._reader.num_records()

    def read(self, index: int, episode: str = "") -> bytes:
        """Returns a record; `episode` is its episode's name, for the message.

        Raises:
          UserError: the record is damaged.
        """
        try:
            return self._reader.read([index])[0]
        except (RuntimeError, IndexError) as error:
            raise damaged_record(self.path, index, episode, first_line(error)) from error


def _disk_error(error: RuntimeError, path: Path) -> Exception:
    """Returns the `OSError` that the message of `error` describes, or a `UserError` with this message."""
    import errno

    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
        if os.strerror(code).lower() in str(error).lower():
            return OSError(code, os.strerror(code), str(path))
    return UserError(f"cannot write {path}: {first_line(error)}; then run the same command again")
