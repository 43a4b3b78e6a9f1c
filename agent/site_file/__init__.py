"""The parts of the site file: one module for each kind of section, and what is told about the whole."""
