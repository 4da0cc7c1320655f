"""The store on a PostgreSQL server. Importing a module of this folder imports psycopg."""
