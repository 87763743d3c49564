"""Spark jobs: pure `DataFrame -> DataFrame` functions and a thin main in each module."""
