"""Four emitters behind a TCP socket, which may misbehave. A protocol of this test's own.

"NUMBER QUESTION\n" is answered by "NUMBER ok|busy|error ANSWER CRC32\n". Run as a program it serves until it
is killed, tells its port on stdout and keeps its state in a file.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.devices import Identity

if TYPE_CHECKING:  # its package brings torch, which the program does without
    from labctl_sim_devices.wires.faults import FaultLayer

WHO = Identity("labctl", "lamp 4", "L-1", "1.2", simulated=True)


class LampServer:
    """Listens on 127.0.0.1; `current_ma` is what the emitters are driven with, `asked` what came."""

    def __init__(self, faults: FaultLayer | None = None, *, state: Path | None = None, port: int = 0) -> None:
        self.faults = faults
        self.state = state
        self.current_ma = [0.0] * 4
        self.unit = ""
        self.blinks = 0
        self.asked: list[str] = []
        self.delay_s = 0.0
        self._connections: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Every connection ends, and the settings are lost as by a power cut; the port stays."""
        self.unit = ""
        for connection in tuple(self._connections):
            self._hang_up(connection)

    def stop(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.unplug()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as lines:
            for line in lines:
                number, _, question = line.decode("ascii").strip().partition(" ")
                body = f"{number} {self._answer(question)}".encode()
                time.sleep(self.delay_s)
                answer = b"%b %08x\n" % (body, zlib.crc32(body))
                if self.faults is None:
                    connection.sendall(answer)
                else:
                    self.faults.send(answer, connection.sendall, lambda: self._hang_up(connection))
        self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _answer(self, question: str) -> str:
        if self.faults is not None and question != "OFF":  # that is taken even by a busy lamp
            told = self.faults.question()
            if told != "do":
                return "busy" if told == "busy" else "error -200,"
        self.asked.append(question)
        word, _, values = question.partition(" ")
        match word:
            case "IDN":
                who = WHO if self.faults is None else self.faults.identity(WHO)
                return f"ok {who.vendor},{who.model},{who.serial},{who.firmware}"
            case "UNIT":
                self.unit = values
            case "DRIVE":
                self.current_ma = [float(value) for value in values.split(",")]
                self._keep()
            case "OFF":
                self.current_ma = [0.0] * 4
                self._keep()
            case "TOTAL":
                return f"ok {sum(self.current_ma):.3f}"
            case "TEMP":
                return "ok 25.25"
            case "BLINK":
                self.blinks += 1
                return f"ok {self.blinks}"
            case "HELLO":
                pass
            case _:
                return "error -113,undefined header"
        return "ok "

    def _keep(self) -> None:
        if self.state is not None:
            self.state.write_text(json.dumps(self.current_ma))


if __name__ == "__main__":
    server = LampServer(state=Path(sys.argv[1]))
    print(server.address, flush=True)
    threading.Event().wait()
