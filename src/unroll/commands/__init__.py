"""Commands for people, one thin module each; cli.py names them and their options."""
