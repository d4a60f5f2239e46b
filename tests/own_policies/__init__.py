"""Users' files that say what our policies say, held to them at length: `make own-policies`."""
