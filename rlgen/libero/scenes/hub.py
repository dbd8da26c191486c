"""The hub dataset of object assets that `hf-libero` downloads: a help where it can be had, no more."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

HUB_DATASET = "lerobot/libero-assets"
OFFLINE_VARIABLES = ("RLGEN_OFFLINE", "HF_HUB_OFFLINE")
PATIENCE = 4.0  # seconds to wait for the hub's first answer


def hub_assets(usable: Callable[[Path], bool], *, download: bool, log: Callable[[str], None]) -> Path | None:
    """The asset tree where `hf-libero` keeps it, in the hub's own cache, or downloaded into that.

    Args:
      usable: whether a tree is whole; one that is not is passed over.
      download: whether the hub may be asked; `RLGEN_OFFLINE` and `HF_HUB_OFFLINE` forbid it, too.
      log: hears, in one line each, of a download and of its failure.

    Returns:
      The tree's root, or None where it cannot be had; without a network that takes about `PATIENCE`.
    """
    kept = Path("~/.cache/libero/assets").expanduser()
    if usable(kept):
        return kept
    try:
        import huggingface_hub as hub
    except ImportError:
        return None
    cached = _attempt(lambda: hub.snapshot_download(HUB_DATASET, repo_type="dataset", local_files_only=True))
    if isinstance(cached, str) and usable(Path(cached)):
        return Path(cached)
    if not download or is_offline():
        return None
    answer = _within(PATIENCE, lambda: hub.HfApi().repo_info(HUB_DATASET, repo_type="dataset", timeout=3.0))
    if isinstance(answer, Exception):
        log(f"the hub's LIBERO assets cannot be had ({_one_line(answer)})")
        return None
    log(f"downloading the LIBERO assets from the hub ({HUB_DATASET}), once")
    fetched = _attempt(lambda: hub.snapshot_download(HUB_DATASET, repo_type="dataset"))
    if isinstance(fetched, str) and usable(Path(fetched)):
        return Path(fetched)
    reason = _one_line(fetched) if isinstance(fetched, Exception) else "what came is not whole"
    log(f"the hub's LIBERO assets cannot be had ({reason})")
    return None


def is_offline() -> bool:
    """Whether the user wants no network to be used."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_VARIABLES)


def _attempt(call: Callable[[], Any]) -> Any:
    """The call's result, or the exception it raised."""
    try:
        return call()
    except Exception as error:
        return error


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The call's result or exception; `TimeoutError` where it takes longer, as a stuck name look-up does."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(_attempt(call)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"no answer within {seconds:g} s")


def _one_line(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"[:160]
