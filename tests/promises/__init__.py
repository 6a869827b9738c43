"""Every promise has a test that names it, and a line in the documents that names the test."""
