"""Code in C++, and how it is built once per processor and loaded; ``models`` uses it."""
