"""A real broker and a real database as child processes, with nothing but Python on the machine."""
