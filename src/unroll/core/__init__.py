"""Settings, paths, errors and atomic files: what every package uses. Imports no other package of unroll."""
