"""Layouts: what a folder, a file or two of them can mean, one file each."""
