"""The pages inside the Airflow UI: the review of doubtful pairs, and the rows of a run."""
