"""The edge energy-management agent for grid batteries."""
