-- Run once, when the database is made: a role that Grafana reads the ledger with. Tables are made
-- later, by Taximeter itself, so what the reader may do is said ahead.
\set password `cat /run/secrets/reader_password`
CREATE ROLE reader LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
ALTER ROLE reader SET default_transaction_read_only = on;
ALTER ROLE reader SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
