"""The page of a comparison of methods: its data, pictures and words."""
