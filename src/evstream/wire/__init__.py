"""What crosses the network: messages of the HTTP API, version 1."""
