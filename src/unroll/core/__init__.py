"""Settings, paths, errors and atomic files, which every package may use. Imports no other package of unroll."""
