"""Names and the classes they stand for: built-in components, other packages' entry points, upstream's dotted paths."""
