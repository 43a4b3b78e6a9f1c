"""A battery site that is not there: plant physics, Modbus devices fed by it, and faults on demand."""
