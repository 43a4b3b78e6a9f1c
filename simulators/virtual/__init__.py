"""The whole agent on virtual time: loop, network, broker, cloud and site in memory, driven by a seed."""
