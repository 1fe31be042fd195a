"""A coroutine that visits three processes and returns with what it found."""

import asyncio
import contextlib

import objspace

HOST = """
import objspace
stock = {stock}
server = objspace.Server({{"stock": stock}}, "tcp://127.0.0.1:0", policy=objspace.Policy.full())
address = server.start().address
"""


async def collect(addresses, name):
    found = []
    for address in addresses:
        names = await objspace.hop(address)
        # From here on this runs in the other process. Its names have to stay there.
        found.append(names.stock[name])
        del names
    return found


async def main():
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(objspace.spawn(setup=HOST.format(stock={"apples": count})))
            for count in (3, 5, 8)
        ]
        print(await collect([host.address for host in hosts], "apples"))


if __name__ == "__main__":
    asyncio.run(main())
