"""A store in memory for tests of the cloud side, which can be told to fail as a disk does."""

from agent.core.records import Stage, StorageFailed


class MemoryStore:
    def __init__(self):
        self.plans, self.written, self.events = [], [], []
        self.failing = False

    async def save_document(self, content, document, outcome):
        self._check()
        self.plans.append((content, document))
        self.written.append(outcome)

    async def record_outcome(self, outcome, *, once=False):
        self._check()
        same = [
            o
            for o in self.written
            if (o.kind, o.version, o.sha256, o.stage) == (outcome.kind, outcome.version, outcome.sha256, outcome.stage)
        ]
        if not (once and same):
            self.written.append(outcome)

    async def outcomes(self, kind, version, sha256):
        return [o for o in self.written if (o.kind, o.version, o.sha256) == (kind, version, sha256)]

    async def append_event(self, event):
        self._check()
        self.events.append(event)

    def stages(self):
        return [(o.version, o.stage) for o in self.written]

    def _check(self):
        if self.failing:
            raise StorageFailed("control", "the disk is full")


__all__ = ["MemoryStore", "Stage"]
