"""The hub dataset of object assets that `hf-libero` downloads, used where it is available."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import expanded

HUB_DATASET = "lerobot/libero-assets"
OFFLINE_VARIABLES = ("RLGEN_OFFLINE", "HF_HUB_OFFLINE")
TIMEOUT = 4.0  # seconds to wait for the hub's first answer


def hub_assets(usable: Callable[[Path], bool], *, download: bool, log: Callable[[str], None]) -> Path | None:
    """Finds the asset tree where `hf-libero` stores it or in the hub's own cache, or downloads it into that.

    Args:
      usable: returns whether a tree is complete; others are skipped.
      download: True to allow a download; `RLGEN_OFFLINE` and `HF_HUB_OFFLINE` forbid it all the same.
      log: called with one line each for a download and for its failure.

    Returns:
      The tree's root, or None where there is none; without a network that takes about `TIMEOUT`.
    """
    stored = expanded("~/.cache/libero/assets")
    if usable(stored):
        return stored
    try:
        import huggingface_hub as hub
    except ImportError:
        return None
    cached = _result_or_error(lambda: hub.snapshot_download(HUB_DATASET, repo_type="dataset", local_files_only=True))
    if isinstance(cached, str) and usable(Path(cached)):
        return Path(cached)
    if not download or is_offline():
        return None
    answer = _within(TIMEOUT, lambda: hub.HfApi().repo_info(HUB_DATASET, repo_type="dataset", timeout=3.0))
    if isinstance(answer, Exception):
        log(_missing(_one_line(answer)))
        return None
    log(f"downloading the LIBERO assets from the hub ({HUB_DATASET}), once")
    fetched = _result_or_error(lambda: hub.snapshot_download(HUB_DATASET, repo_type="dataset"))
    if isinstance(fetched, str) and usable(Path(fetched)):
        return Path(fetched)
    reason = _one_line(fetched) if isinstance(fetched, Exception) else "the download is incomplete"
    log(_missing(reason))
    return None


def _missing(reason: str) -> str:
    return (
        f"the LIBERO assets of the hub are not available ({reason}), so that the placeholder assets are used; --assets "
        "or RLGEN_LIBERO_ASSETS gives others"
    )


def check_online() -> None:
    """Raises `UserError` where the user forbids network access, as a command does that is about nothing else."""
    if is_offline():
        raise UserError("no network is to be used (RLGEN_OFFLINE or HF_HUB_OFFLINE is set); unset it to go on")


def is_offline() -> bool:
    """Returns True if the user forbids network access."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_VARIABLES)


def _result_or_error(call: Callable[[], Any]) -> Any:
    """Returns the result of a call, or the exception it raised."""
    try:
        return call()
    except Exception as error:
        return error


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Returns the result of a call or its exception; `TimeoutError` where it takes longer, e.g. in a name look-up."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(_result_or_error(call)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"no answer within {seconds:g} s")


def _one_line(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"[:160]
