"""Local re-planning: a question is solved in a short-lived process and its answer checked before it is used.

`runner.replan(request)` always answers. Only `model.py`, inside that process, imports scipy.
"""
