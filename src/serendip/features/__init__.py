"""Jets to numbers: clustering and substructure. Arrays in, arrays out."""
