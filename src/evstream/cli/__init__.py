"""Commands."""

import os
import signal

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def main() -> None:
    """Run the command line, quiet if it is interrupted before it is loaded."""
    # Not by KeyboardInterrupt: an import that one breaks leaves a traceback, or swallows it.
    # Who starts us with interrupts ignored means it.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    from evstream.cli import commands

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.main()
