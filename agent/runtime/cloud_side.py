class CloudSide:
    def __init__(self, *a): pass
    async def run(self): pass
    async def facts(self): return None
    async def beat(self): pass
    async def close(self): pass
    async def import_plan(self, payload, who): raise NotImplementedError
