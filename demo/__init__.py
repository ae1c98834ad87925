"""The demonstration that ``make demo`` runs: real events, two workers, one of them killed."""
