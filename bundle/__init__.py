"""Builds what is carried to a gateway without internet: `make bundle`."""
