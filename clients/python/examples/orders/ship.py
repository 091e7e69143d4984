"""Ships orders as they are placed; ctrl-c finishes the one it is at.

    python ship.py ADDRESS [COUNT]

COUNT ends it after so many orders. Start it again: it goes on where it was.
"""

import asyncio
import signal
import sys

from futoin_eventstream import Event, EventStream


async def main(address: str, count: str = "0") -> None:
    left = int(count)

    async def ship(event: Event) -> None:
        nonlocal left
        print(f"order {event.data['order']} shipped: {event.data['item']}", flush=True)
        left -= 1
        if left == 0:
            receiver.stop()

    async with EventStream(address) as stream:
        receiver = stream.receive("PY_SHIPPING", ship, want=["ORDER_PLACED"])
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, receiver.stop)
        await receiver.run()


asyncio.run(main(*sys.argv[1:]))
