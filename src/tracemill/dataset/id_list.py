"""Ids by the million: 16 bytes each, one after another, without an object for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

ID_BYTES = 16


class IdList(Sequence[bytes]):
    """Ids that are appended to, or lie in a file that is mapped."""

    def __init__(self, content: bytes | bytearray | memoryview = b"") -> None:
        self.content: bytearray | memoryview = content if isinstance(content, memoryview) else bytearray(content)

    def append(self, raw: bytes) -> None:
        """Put one id at the end."""
        assert isinstance(self.content, bytearray)
        self.content += raw

    def extend(self, ids: Iterable[bytes]) -> None:
        """Put ids at the end."""
        for raw in ids:
            self.append(raw)

    def __len__(self) -> int:
        return len(self.content) // ID_BYTES

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return bytes(self.content[place * ID_BYTES : (place + 1) * ID_BYTES])

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self) * ID_BYTES, ID_BYTES):
            yield bytes(self.content[at : at + ID_BYTES])
