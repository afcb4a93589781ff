"""Commands for people, one thin module each. They import late, so that --help answers at once."""
