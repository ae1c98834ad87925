"""How payloads are run: as a command of the operating system, or as a Python callable."""
