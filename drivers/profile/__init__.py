"""Devices as data: one TOML file per device; `model` is its format, `check` what makes sense, `load` finds it."""
