"""Looking into a run: where its time and memory go, and its entries on somebody's board."""
