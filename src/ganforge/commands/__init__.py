"""The commands of `ganforge`, a function each: options in, rooms called, results printed."""
