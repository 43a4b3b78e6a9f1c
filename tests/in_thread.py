"""Something asynchronous (a server, a serial line, a site) in a thread of its own, for tests that wait themselves."""

import asyncio
import threading

DEADLINE_S = 20.0


class InThread:
    """`context` is entered in the loop of a new thread, and left with `close` or at the end of a `with`."""

    def __init__(self, context):
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(context.__aenter__())

    def call(self, coroutine):
        """What the coroutine returns, in that thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)

    def close(self):
        self.call(self._context.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        return self._context

    def __exit__(self, *_):
        self.close()


class SiteInThread(InThread):
    """A simulated site; faults may be set from here at any time."""

    def __init__(self, site):
        super().__init__(site)
        self.site = site

    def do(self, action):
        """What `action` returns, done in the site's own thread and at its present."""

        async def now():
            self.site.advance_to_now()
            return action()

        return self.call(now())
