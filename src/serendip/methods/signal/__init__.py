"""The signal that R-ANODE learns on top of a known background: its data, family of functions, start and training."""
