"""The course's first lesson: letter by letter, "hihell" learns to say "ihello"."""

TEXT = "hihell"
TARGET = "ihello"
LETTERS = ("h", "i", "e", "l", "o")
