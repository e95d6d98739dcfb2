"""The store on PostgreSQL: the database, and procedures that do at once what any store can do step by step."""
