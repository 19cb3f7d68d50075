"""Several processes, on one machine or on many, that work into one folder and know of each other through it
alone: no process group, no ports, no locks of the file system, only files that are renamed into place.

Each writes a small file anew every few seconds, its beat. One that ends well takes its file away, one that
fails leaves the reason in it, and one that was killed falls silent: whoever waits for it then ends with a
line that says so, and the launcher, or the user, starts all of them again.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.launch import Place

FOLDER = ".crew"
CLAIMS = "claims"
BEAT_S = 5.0
LOOK_S = 0.5   # between two looks of one who waits
SILENT_S = 180.0   # after which a process counts as lost: network mounts show a change up to a minute late
LATE_S = 600.0   # after which one that was never seen counts as lost: torch may load slowly on a busy mount
FAILED = "failed"


class Crew:
    """This process's part in it, from entering to leaving the context; alone it writes nothing.

    ``state`` is what the others can wait for.
    """

    def __init__(self, out: Path, place: Place) -> None:
        self.place = place
        self.root = out / FOLDER
        self.folder = self.root / (place.launch or "alone")
        self.state, self.count = "begun", 0
        self.ended = threading.Event()
        self.writing = threading.Lock()
        self.beating = threading.Thread(target=self._beat, daemon=True)
        # of each other one: its last beat, and when that was first seen here
        self.seen: dict[int, tuple[int, float]] = {}
        self.stale: dict[str, bytes] = {}   # what was there before this one began: it may be of the dead
        self.since = time.monotonic()

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.place.world == 1

    def __enter__(self) -> "Crew":
        if not self.alone:
            for path in self.folder.glob("*.json"):
                with suppress(OSError):
                    self.stale[path.name] = path.read_bytes()
            self._write()
            self.beating.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self.alone:
            return
        self.ended.set()
        self.beating.join()
        if error is not None:
            with suppress(OSError):   # the error that is under way counts for more
                self._write(FAILED, str(error) or type(error).__name__)
            return
        self._file(self.place.rank).unlink(missing_ok=True)
        if not list(self.folder.glob("*.json")):   # the last one
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.root.rmdir()

    def forget_earlier(self) -> None:
        """Remove what was left by processes that were started before these: the first one, before any claims.
        """
        shutil.rmtree(self.folder / CLAIMS, ignore_errors=True)
        for folder in self.root.glob("*"):
            if folder != self.folder:
                shutil.rmtree(folder, ignore_errors=True)
        if self.alone:
            with suppress(OSError):
                self.root.rmdir()

    def say(self, state: str) -> None:
        """Let the others know how far this one is."""
        self.state = state
        if not self.alone:
            self._write()

    def claim(self, name: str) -> bool:
        """Whether a piece of work is this process's to do: the first of these processes to ask has it.

        What one that died had begun is free again when all are started again.
        """
        if self.alone:
            return True
        path = self.folder / CLAIMS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def wait(self, done: Callable[[], bool], ranks: range | list[int]) -> None:
        """Go on when ``done`` is true.

        Raises InputError when one of ``ranks`` has failed or fallen silent.
        """
        started = time.monotonic()
        while not done():
            took = time.monotonic() - started
            for rank in ranks:
                self._check(rank)
            time.sleep(max(LOOK_S, 4 * took))   # to look may be work too
            started = time.monotonic()

    def state_of(self, rank: int) -> str:
        """How far another one says that it is; empty if it has said nothing since this one began."""
        said, new = self._read(rank)
        return str(said.get("state", "")) if new else ""

    def _check(self, rank: int) -> None:
        (beat, new), now = self._read(rank), time.monotonic()
        who = f"process {rank} of {self.place.world}" + (f" on {beat['host']}" if beat else "")
        again = "what is whole is kept, run the same command again"
        if new and beat.get("state") == FAILED:
            raise InputError(f"{who} failed ({beat.get('error', '')}); {again}")
        count = int(beat.get("count", -1))
        last, since = self.seen.get(rank, (-1, self.since))
        if count != last:
            self.seen[rank] = count, now
        elif now - since > (SILENT_S if rank in self.seen else LATE_S):
            left = f" (its last word: {beat['error']})" if beat.get("error") else ""
            raise InputError(f"{who} has not been heard of for {now - since:.0f} s{left}; {again}")

    def _beat(self) -> None:
        while not self.ended.wait(BEAT_S):
            with suppress(OSError):   # a full disk is met, and said, where the work is
                self._write()

    def _write(self, state: str | None = None, error: str = "") -> None:
        with self.writing:
            self.count += 1
            said = {
                "count": self.count, "state": state or self.state, "error": error,
                "host": socket.gethostname(), "pid": os.getpid(),
            }
            write_whole(self._file(self.place.rank), json.dumps(said).encode())

    def _read(self, rank: int) -> tuple[dict[str, Any], bool]:
        """A process's last word, and whether it was said since this one began."""
        path = self._file(rank)
        try:
            said = path.read_bytes()
            return dict(json.loads(said)), said != self.stale.get(path.name)
        except (OSError, ValueError):
            return {}, False

    def _file(self, rank: int) -> Path:
        return self.folder / f"{rank:05d}.json"
