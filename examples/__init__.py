"""Real payloads, each with a task file and a page under docs/how-to."""
