"""The commands of `atlas`, a file each."""
