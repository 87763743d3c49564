-- Run once by the postgres image, when its volume is empty: one role and one database for each of the two stores.
-- Airflow cannot read what people decided, and Copywatch cannot read Airflow's connections.
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv ledger_password LEDGER_DB_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE copywatch LOGIN PASSWORD :'ledger_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE copywatch OWNER copywatch;
REVOKE CONNECT ON DATABASE airflow, copywatch FROM PUBLIC;
