"""Statistics between organisations, from the command line."""
