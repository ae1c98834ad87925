"""How payloads are run: by a command each, by a process that goes on, in place."""
