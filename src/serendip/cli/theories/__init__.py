"""``serendip theories``: mixtures of theories on samples in the Dark Machines format."""
