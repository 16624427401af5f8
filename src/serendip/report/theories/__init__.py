"""The page of a study of mixtures of theories: claims, tables, pictures and words."""
