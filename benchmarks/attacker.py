"""The other process of `serving_under_attack.py`: it attacks a server, or none.

python benchmarks/attacker.py unfinished 20 http://127.0.0.1:8000 127.0.0.2
python benchmarks/attacker.py cpu 20 0.5
"""

import asyncio
import collections
import json
import sys
import time
import urllib.parse

# Connections of each.
ATTACKS = {"unfinished": 130, "brackets": 8}

HEAD = (
    "POST /certify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
    "Content-Type: application/json\r\n\r\n"
)


class Attacker:
    """What one process says to a server, over several connections."""

    def __init__(self, address, source, seconds):
        url = urllib.parse.urlsplit(address)
        self._server = url.hostname, url.port
        self._source = source, 0
        self._ends = time.perf_counter() + seconds
        self._statuses = collections.Counter()
        self._size = 2**24

    async def run(self, name):
        attack = getattr(self, name)
        await asyncio.gather(*(attack() for _ in range(ATTACKS[name])))
        return self._statuses

    async def unfinished(self):
        """Connections with half a body."""
        while time.perf_counter() < self._ends:
            await self._say(HEAD.format(1_000), b'{"instances": ')

    async def brackets(self):
        """Bodies of brackets, as large as the server takes."""
        while time.perf_counter() < self._ends:
            size = self._size
            body = b'{"instances": [' + b"[]," * (size // 3) + b"[]]}"
            status = await self._say(HEAD.format(len(body)), body)
            if status in (413, "reset") and size == self._size:
                self._size = size * 4 // 5

    async def _say(self, head, body):
        """The status that the server answers with, if it does."""
        status = "reset"
        try:
            reader, writer = await asyncio.open_connection(
                *self._server, local_addr=self._source
            )
            try:
                async with asyncio.timeout(self._ends - time.perf_counter()):
                    writer.write(head.encode() + body)
                    await writer.drain()
                    status = int((await reader.readline()).split()[1])
            finally:
                writer.transport.abort()
        except TimeoutError:
            status = "held to the end"
        except (OSError, IndexError):
            pass
        self._statuses[str(status)] += 1
        return status


async def attack(name, seconds, address, source):
    return await Attacker(address, source, float(seconds)).run(name)


def burn(seconds, core):
    """Takes a share of a core, and says nothing to anybody."""
    busy = min(float(core), 1)
    ends = time.perf_counter() + float(seconds)
    while (now := time.perf_counter()) < ends:
        while time.perf_counter() < now + 0.01 * busy:
            pass
        time.sleep(0.01 * (1 - busy))
    return {}


def main(name, seconds, *settings):
    print("ready", flush=True)
    began = time.process_time()
    if name == "cpu":
        statuses = burn(seconds, *settings)
    else:
        statuses = asyncio.run(attack(name, seconds, *settings))
    core = (time.process_time() - began) / float(seconds)
    print(json.dumps({"statuses": statuses, "core": round(core, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
