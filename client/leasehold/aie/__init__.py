"""Objects and files of AI Engine arrays: the geometry, the driver's resource file, and what claims are made of."""
