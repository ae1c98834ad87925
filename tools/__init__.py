"""What the Makefile runs: set-up, and the checks and pages that no package gives us."""
