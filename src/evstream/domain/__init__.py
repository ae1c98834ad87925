"""Rules of event ranges, leases, products and receipts: pure, without I/O."""
