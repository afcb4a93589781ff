"""Commands, one thin module each: options and help beside the function. Imports that are slow are inside functions."""
