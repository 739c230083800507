"""The last bytes each way, kept for the moment in which something goes wrong."""

from __future__ import annotations

from collections import deque

KEPT_PIECES = 16
KEPT_BYTES = 256  # of a piece: its beginning and its end
SHOWN_BYTES = 48  # of a piece, in a message


class WireLog:
    """A ring of what was sent and received; a transport notes both."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[str, bytes]] = deque(maxlen=KEPT_PIECES)

    def sent(self, data: bytes) -> None:
        """Bytes that went to the instrument."""
        self._pieces.append((">", _ends(data, KEPT_BYTES)))

    def received(self, data: bytes) -> None:
        """Bytes that came from it."""
        self._pieces.append(("<", _ends(data, KEPT_BYTES)))

    def last(self) -> bytes:
        """All that is kept, oldest first: lines that begin with b"> " (sent) or b"< " (received)."""
        return b"\n".join(way.encode() + b" " + data for way, data in tuple(self._pieces))

    def words(self) -> str:
        """The last piece each way, for a message."""
        pieces = tuple(self._pieces)
        sent, got = (next((data for way, data in reversed(pieces) if way == wanted), None) for wanted in "><")
        return f"last sent {_shown(sent)}, last received {_shown(got)}"


def _ends(data: bytes, room: int) -> bytes:
    if len(data) <= room:
        return bytes(data)
    half = room // 2
    return b"%b[%d bytes]%b" % (data[:half], len(data) - 2 * half, data[-half:])


def _shown(data: bytes | None) -> str:
    return "nothing" if data is None else repr(_ends(data, SHOWN_BYTES))
