"""One module a command, with a function ``run``; it is imported when the command is used."""
