"""Devices of a site: the Modbus link, SunSpec discovery, and the roles battery, PV and meter."""
