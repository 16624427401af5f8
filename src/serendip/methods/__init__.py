"""One file per published search method."""
