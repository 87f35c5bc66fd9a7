"""Putting the files of an export in their place: all of them, or none.

They are written into ``.draft`` inside of the export's folder, ``export.json`` last, and moved when all are there. Until then
an earlier export of the folder stays as it is. The first step of moving takes the earlier ``export.json`` away (into the
draft), the last puts the new one there: a folder without it was cut off in between, and the draft's two manifests name all
files that may lie about. Erasure reads them (:mod:`tracemill.dataset.erase`).

A draft that has finished files stays when an export is interrupted, for the next run (:mod:`tracemill.export.resume`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tracemill.dataset.erase import BEFORE, DRAFT, EXPORT
from tracemill.dataset.files import sync_folder
from tracemill.export.resume import JOURNAL, has_finished


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """The folder for the files of an export, with what an interrupted run left there.

    It is gone afterwards, unless the export was interrupted with files finished, or moving them was cut off.
    """
    draft = folder / DRAFT
    if (draft / BEFORE).exists():
        shutil.rmtree(draft)
    draft.mkdir(exist_ok=True)
    try:
        yield draft
    finally:
        if not (draft / BEFORE).exists() and not has_finished(draft):
            shutil.rmtree(draft, ignore_errors=True)


def put_in_place(folder: Path, stale: Iterable[Path]) -> None:
    """Move what the draft of a folder holds into the folder, and remove what of an earlier export is not replaced."""
    draft = folder / DRAFT
    (draft / JOURNAL).unlink()
    sync_folder(draft)
    before = draft / BEFORE
    if (folder / EXPORT).exists():
        (folder / EXPORT).replace(before)
    else:
        before.touch()
    sync_folder(folder)
    names = {path.name for path in draft.iterdir()} - {EXPORT, BEFORE}
    for name in sorted(names):
        (draft / name).replace(folder / name)
    _remove_stale(path for path in stale if path.name not in names)
    sync_folder(folder)
    (draft / EXPORT).replace(folder / EXPORT)
    sync_folder(folder)
    before.unlink()


def _remove_stale(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()
