"""Networks that several papers share, as functions from sizes to modules; initialisations."""
