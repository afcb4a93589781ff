"""One thin module a DVC stage: read settings and files, call the library, write files."""
