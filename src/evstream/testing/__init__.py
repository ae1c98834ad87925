"""What tests of evstream are made of; public, so that sites can test their own adapters."""
