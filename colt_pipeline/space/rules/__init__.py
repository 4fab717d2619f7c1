"""Schedule rules of this project, which find their patterns by the structure of a program."""
