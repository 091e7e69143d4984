"""A reliable receiver that prints what it handled, for long runs and measurements; see recorder.sh."""

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable

from futoin_eventstream import Event, EventStream


class Recorder:
    """Counts events, and prints them unless it is to be quiet."""

    def __init__(self, limit: int | None, *, quiet: bool) -> None:
        self._limit = limit
        self._quiet = quiet
        self.stop: Callable[[], None]
        self.events = 0
        self.first = self.last = 0.0

    async def handle(self, event: Event) -> None:
        self.last = time.monotonic()
        self.events += 1
        if self.events == 1:
            self.first = self.last
        if not self._quiet:
            sys.stdout.write(f"{event.id}\n")
            sys.stdout.flush()
        if self.events == self._limit:
            self.stop()


def await_end_of_stdin(then: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    then()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("component")
    parser.add_argument("--count", type=int)
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    recorder = Recorder(options.count, quiet=options.quiet)
    loop = asyncio.get_running_loop()
    async with EventStream(options.address) as stream:
        receiver = stream.receive(options.component, recorder.handle)
        recorder.stop = receiver.stop
        waiting = (lambda: loop.call_soon_threadsafe(receiver.stop),)
        threading.Thread(target=await_end_of_stdin, args=waiting, daemon=True).start()
        await receiver.run()
    print(json.dumps({"events": recorder.events, "seconds": recorder.last - recorder.first}), file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
