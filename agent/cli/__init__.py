"""The `ems` command: one file per command, talking to the daemon over its Unix socket."""
