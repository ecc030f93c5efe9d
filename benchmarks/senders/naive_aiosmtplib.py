"""A pool of aiosmtplib connections that take people from a queue: what everyone writes."""

import asyncio

import aiosmtplib

from benchmarks.senders.common import Work


async def send(work: Work, queue: "asyncio.Queue[dict[str, str]]") -> None:
    job = work.job
    client = aiosmtplib.SMTP(
        hostname=job["host"], port=job["port"], use_tls=True, tls_context=work.context
    )
    async with client:
        while not queue.empty():
            await client.send_message(work.message(queue.get_nowait()))


async def main() -> None:
    work = Work()
    queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    for person in work.people():
        queue.put_nowait(person)
    await asyncio.gather(*(send(work, queue) for _ in range(work.job["connections"])))


if __name__ == "__main__":
    asyncio.run(main())
