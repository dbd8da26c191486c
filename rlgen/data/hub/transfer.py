"""Datasets to and from the Hugging Face hub, or any server of its interface that `HF_ENDPOINT` names.

What is sent are the files that the card of a dataset lists, the card, and a `README.md` made from it; nothing else that
lies in the folder. Files go in commits of some gigabytes; whatever the repository already has with the same content is
not sent again, so that the same command resumes an interrupted upload.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rlgen.core.errors import UserError, first_line
from rlgen.core.ownership import is_vacant, only_writer, remove
from rlgen.data.card import CARD_JSON, CARD_TEXT, read_card, verify_files
from rlgen.data.dataset import dataset_format
from rlgen.data.hub.card import hub_card, version_tag
from rlgen.data.shards import file_sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

README = "README.md"
# Of the hub's own making.
_NOT_DATA = (README, ".gitattributes")
FILES_PER_COMMIT, BYTES_PER_COMMIT = 64, 5_000_000_000
_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_KIND = "dataset"
OnProgress = Callable[[int, int], None]
# Libraries whose errors are those of the connection.
_LIBRARIES = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


@dataclass(frozen=True)
class PushPlan:
    """The files and texts of a push.

    Attributes:
      folder: of the dataset.
      repo: `USER/NAME`.
      files: size in bytes of each file of the dataset, by its path.
      readme: text of `README.md`.
      tag: of the finished upload.
    """

    folder: Path
    repo: str
    files: Mapping[str, int]
    readme: str
    tag: str

    def lines(self) -> list[str]:
        """Returns a description of all that is sent, for people."""
        files = [f"{size:>14,} B  {name}" for name, size in self.files.items()]
        files.append(f"{len(self.readme.encode()):>14,} B  {README}, made from the card:")
        front = self.readme.split("---\n")[1].splitlines()
        total = sum(self.files.values()) + len(self.readme.encode())
        summary = f"{len(self.files) + 1} files, {total:,} B, to the dataset {self.repo}, tagged {self.tag}"
        return [*files, *(f"                  {line}" for line in front), summary]


def plan_push(folder: Path, repo: str) -> PushPlan:
    """Returns what a push of a dataset sends; asks no server.

    Args:
      folder: of a dataset with a card.
      repo: `USER/NAME`.

    Raises:
      UserError: there is no card, the files are not those that it lists, or the name is none of a repository.
    """
    _check_repo(repo)
    card = read_card(folder)
    problems = verify_files(folder, card)
    if problems:
        name, problem = next(iter(problems.items()))
        raise UserError(
            f"{folder / name}: {problem}, and {len(problems) - 1} more; only what the card lists is uploaded: move the "
            "rest away, or export the dataset again"
        )
    names = [*card["descriptions"], CARD_JSON, CARD_TEXT, *card["shards"]]
    files = {name: (folder / name).stat().st_size for name in names}
    return PushPlan(folder, repo, files, hub_card(card, folder), version_tag(card, folder))


def push_dataset(
    plan: PushPlan,
    *,
    private: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> str:
    """Uploads a dataset, and returns its address.

    Args:
      plan: of `plan_push`.
      private: whether a repository that is made here can be seen by its owners alone.
      overwrite: replace the `README.md` of a repository, and remove files of it that the dataset does not have.
      on_progress: called with the number of files that the repository has, and of all.

    Raises:
      UserError: the repository holds something else, the token is not accepted, or the connection fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _api()
    with _hub_errors(api, plan.repo):
        url = api.create_repo(plan.repo, repo_type=_KIND, private=private or None, exist_ok=True)
        stored = _stored(api, plan.repo)
        foreign = [name for name in stored if name not in plan.files and name not in _NOT_DATA]
        if foreign and not overwrite:
            raise UserError(
                f"{plan.repo}: has {foreign[0]} and {len(foreign) - 1} more files that this dataset has not; choose "
                "another --repo, or pass --overwrite to remove them"
            )
        present = {name for name in plan.files if name in stored and _is_same(plan.folder / name, stored[name])}
        done, total = len(present), len(plan.files)
        on_progress(done, total)
        for batch in _batches([(name, size) for name, size in plan.files.items() if name not in present]):
            files = [CommitOperationAdd(name, plan.folder / name) for name, _ in batch]
            api.create_commit(plan.repo, files, commit_message=f"Upload {len(files)} files", repo_type=_KIND)
            done += len(batch)
            on_progress(done, total)
        last: list[Any] = [CommitOperationDelete(name) for name in foreign]
        if README not in stored or (overwrite and not _has_bytes(stored[README], plan.readme.encode())):
            last.append(CommitOperationAdd(README, plan.readme.encode()))
        if last:
            api.create_commit(plan.repo, last, commit_message="Card", repo_type=_KIND)
        _tag(api, plan.repo, plan.tag)
    return str(url)


def _tag(api: "HfApi", repo: str, tag: str) -> None:
    """Sets the tag to the newest commit: readers ask for it, and would get the files of an earlier upload."""
    head = api.repo_info(repo, repo_type=_KIND).sha
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo, repo_type=_KIND).tags}
    if tags.get(tag) == head:
        return
    if tag in tags:
        api.delete_tag(repo, tag=tag, repo_type=_KIND)
    api.create_tag(repo, tag=tag, repo_type=_KIND)


def pull_dataset(
    repo: str, out: Path, *, revision: str | None = None, on_progress: OnProgress = lambda done, total: None
) -> Path:
    """Downloads a dataset, whole or not at all, and returns its folder; a download that was killed resumes.

    Args:
      repo: `USER/NAME`.
      out: folder for its files; nothing may be there but the same dataset.
      revision: tag, branch or commit; the newest by default.
      on_progress: called with the number of files that are there, and of all.

    Raises:
      UserError: no such repository or revision, a file that does not arrive as it is stored, another dataset in `out`,
        no dataset in the repository, or the connection fails.
    """
    _check_repo(repo)
    out, api = Path(out), _api()
    partial = out.with_name(f".{out.name}.pull")
    with only_writer(out.absolute().parent), _hub_errors(api, repo):
        # Without a connection this fails at once; the list of files is asked for again and again, with lines on each.
        api.repo_info(repo, repo_type=_KIND)
        stored = {name: file for name, file in _stored(api, repo, revision).items() if name not in _NOT_DATA}
        for name in stored:
            _check_path(repo, name)
        if not stored:
            raise UserError(f"{repo}: no files in it; expected a dataset")
        if not is_vacant(out):
            return _same_or_error(out, repo, stored)
        for done, (name, file) in enumerate(stored.items()):
            on_progress(done, len(stored))
            if not ((partial / name).is_file() and _is_same(partial / name, file)):
                api.hf_hub_download(repo, name, repo_type=_KIND, revision=revision, local_dir=partial)
                if not _is_same(partial / name, file):
                    raise UserError(f"{repo}: {name}: did not arrive as it is stored; run the same command again")
        on_progress(len(stored), len(stored))
        remove(partial / ".cache")
        if dataset_format(partial) is None:
            raise UserError(f"{repo}: no dataset of a format that is read here; see {partial} for what it has")
        remove(out)
        partial.rename(out)
    return out


def _same_or_error(out: Path, repo: str, stored: Mapping[str, "RepoFile"]) -> Path:
    if all((out / name).is_file() and _is_same(out / name, file) for name, file in stored.items()):
        return out
    raise UserError(f"{out}: something else than {repo} is there; choose another --out")


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or None
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise UserError(f"HF_ENDPOINT {endpoint}: expected an address such as https://huggingface.co")
    return HfApi(endpoint=endpoint)


def _stored(api: "HfApi", repo: str, revision: str | None = None) -> dict[str, "RepoFile"]:
    """Returns the files of a repository by their paths."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo, recursive=True, repo_type=_KIND, revision=revision)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _is_same(path: Path, file: "RepoFile") -> bool:
    """Returns whether a file has the content that the hub stores, by its hash: large files have another one."""
    if path.stat().st_size != file.size:
        return False
    return file_sha256(path) == file.lfs.sha256 if file.lfs is not None else _has_bytes(file, path.read_bytes())


def _has_bytes(file: "RepoFile", data: bytes) -> bool:
    if file.lfs is not None:
        return hashlib.sha256(data).hexdigest() == file.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == file.blob_id


def _batches(files: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Yields files and sizes for one commit after the other."""
    batch: list[tuple[str, int]] = []
    for name, size in files:
        if batch and (len(batch) == FILES_PER_COMMIT or size + sum(s for _, s in batch) > BYTES_PER_COMMIT):
            yield batch
            batch = []
        batch.append((name, size))
    if batch:
        yield batch


def _check_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo):
        raise UserError(f"repository {repo}: expected USER/NAME, letters, digits, and . _ - within")


def _check_path(repo: str, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UserError(f"{repo}: a file named {name!r} would lie outside of the dataset; ask its owner")


@contextmanager
def _hub_errors(api: "HfApi", repo: str) -> Iterator[None]:
    """Turns errors of the hub and of the connection into a `UserError`."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"{api.endpoint}: {repo}"
    try:
        yield
    except UserError:
        raise
    except RevisionNotFoundError as error:
        raise UserError(f"{where}: no such --revision; leave it out for the newest") from error
    except Exception as error:
        response = error.response if isinstance(error, HfHubHTTPError) else None
        status = None if response is None else response.status_code
        if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            raise UserError(
                f"{where}: {'no such dataset, or ' if status != 403 else ''}the token does not allow it; set HF_TOKEN, "
                "or log in with `hf auth login`"
            ) from error
        if type(error).__module__.partition(".")[0] not in _LIBRARIES and not isinstance(error, OSError | RuntimeError):
            raise
        raise UserError(f"{where}: {first_line(error)}; run the same command again, it resumes") from error
