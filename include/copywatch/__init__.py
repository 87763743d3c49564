"""Copywatch watches web sites for copies of its users' images and tells the owners, with evidence."""
