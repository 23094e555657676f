"""One file a command: parse, call, emit. No arithmetic and no formatting of numbers."""
