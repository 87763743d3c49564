"""How many copies of somebody's own photos are found, and how many other images are taken for them."""
