"""Small servers that answer as inference engines do, with their faults, for tests of whoever drives them."""
