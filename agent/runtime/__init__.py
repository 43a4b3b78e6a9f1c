"""The shell around the core: clock, pollers, control loop, recorder, local socket. No decisions here."""
