"""A wish to stop that is heard between two steps: Ctrl-C, and the SIGTERM of schedulers and launchers."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Stopping:
    """Within the context the first signal is remembered, and the second ends the process as ever.

    Only a main thread hears signals; elsewhere nothing changes.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked: int | None = None   # the signal that came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def stop(self) -> None:
        """End as the signal would have: raises KeyboardInterrupt, or SystemExit with SIGTERM's code."""
        if self.asked == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
