"""A YAML file as a tree in which every value knows where it stands: `source.read(path)` gives a `tree.Document`."""
