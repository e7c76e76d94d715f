"""The command line: ``mmzhipu``."""
