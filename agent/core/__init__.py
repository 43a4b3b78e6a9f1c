"""All decisions of the agent: pure functions of their inputs.

No I/O, no clock, no asyncio, standard library only. Time is passed in. Positive power flows toward the
grid: battery discharge +, charge -, PV +, load -, export +, import -; so `grid_w = battery_w + pv_w + load_w`.
"""
