"""evstream, the Event Streaming Service: exactly the events asked for, each counted once."""

__version__ = "0.1.0"
