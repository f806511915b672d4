"""A crawler: asyncio fetches, the pool parses; semaphore, gather, TaskGroup, cancellation, run_in_executor."""

import asyncio
import contextlib
import html.parser
import random
from urllib.parse import urljoin

import atoll


class Links(html.parser.HTMLParser):
    def __init__(self, base):
        super().__init__()
        self.base, self.links, self.title, self._in = base, set(), "", False

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            for key, value in attrs:
                if key == "href" and value:
                    self.links.add(urljoin(self.base, value))
        self._in = tag == "title"

    def handle_data(self, data):
        if self._in:
            self.title += data

    def handle_endtag(self, tag):
        self._in = False


def parse(url: str, text: str) -> tuple[str, set[str]]:
    parser = Links(url)
    parser.feed(text)
    return parser.title, parser.links


SITE = {
    f"http://h/{i}": f"<title>page {i}</title>"
    + "".join(f'<a href="/{j}">x</a>' for j in range(i, min(i * 2 + 2, 60)))
    for i in range(60)
}


async def fetch(url):
    await asyncio.sleep(random.random() / 100)
    return SITE[url]


async def crawl(start, pool, parallel=8):
    loop = asyncio.get_running_loop()
    seen, titles = {start}, {}
    todo: asyncio.Queue[str] = asyncio.Queue()
    todo.put_nowait(start)

    async def worker():
        while True:
            url = await todo.get()
            try:
                title, links = await loop.run_in_executor(pool, parse, url, await fetch(url))
                titles[url] = title
                for link in links - seen:
                    seen.add(link)
                    todo.put_nowait(link)
            finally:
                todo.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(parallel)]
    await todo.join()
    for task in workers:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*workers)
    return titles


def forever():
    n = 0
    while True:
        n += 1


async def main():
    with atoll.InterpreterPoolExecutor(2) as pool:
        titles = await crawl("http://h/0", pool)
        print(len(titles), titles["http://h/5"])
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(asyncio.wait_for(asyncio.wrap_future(pool.submit(parse, u, t)), 5))
                for u, t in list(SITE.items())[:5]
            ]
        print([t.result()[0] for t in tasks])
    with atoll.create() as interp:
        print(await interp.call_async(parse, "http://h/1", SITE["http://h/1"]))
        try:
            async with asyncio.timeout(0.3):
                await interp.call_async(forever)
        except TimeoutError:
            print("timed out")
        print(await interp.call_async(pow, 2, 5))


asyncio.run(main())
