"""Changes the version of the agent on a gateway, and carries a site to another one. Runs as root, not in the daemon."""
