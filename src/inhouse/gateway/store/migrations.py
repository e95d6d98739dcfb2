"""The tables, as numbered steps from an empty store to today's: a store of any earlier version is brought up to date.

A step that was released is never changed; what is new becomes one more step.
"""

from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.postgres import procedures

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE state (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, at DOUBLE PRECISION NOT NULL);

    CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY, caller TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
        revoked DOUBLE PRECISION
    );
    CREATE TABLE key_secrets (
        digest TEXT NOT NULL PRIMARY KEY, key_id TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
        ends DOUBLE PRECISION
    );
    CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

    -- a budget of one period (nano spent, nano reserved) or a token bucket (when it will be full again)
    CREATE TABLE meters (
        name TEXT NOT NULL PRIMARY KEY, spent BIGINT NOT NULL, reserved BIGINT NOT NULL,
        full_at DOUBLE PRECISION NOT NULL
    );

    -- the ledger: of these five only open_calls ever loses a row, and no row of any is changed
    CREATE TABLE calls (
        id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, key_id TEXT NOT NULL, team TEXT NOT NULL,
        task TEXT NOT NULL, asked TEXT NOT NULL, face TEXT NOT NULL, is_stream BIGINT NOT NULL, decision TEXT NOT NULL,
        tokens_estimate BIGINT NOT NULL, reserve BIGINT NOT NULL, charges TEXT NOT NULL, trace TEXT NOT NULL
    );
    CREATE INDEX calls_by_time ON calls (at);
    CREATE TABLE attempts (
        call_id TEXT NOT NULL, number BIGINT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
        upstream TEXT NOT NULL, started DOUBLE PRECISION NOT NULL, PRIMARY KEY (call_id, number)
    );
    CREATE TABLE open_calls (call_id TEXT NOT NULL PRIMARY KEY, replica TEXT NOT NULL);
    CREATE TABLE settlements (
        call_id TEXT NOT NULL, revision BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL,
        outcome TEXT NOT NULL, status BIGINT NOT NULL, seconds DOUBLE PRECISION NOT NULL, first_token DOUBLE PRECISION,
        cost BIGINT NOT NULL, low BIGINT NOT NULL, high BIGINT NOT NULL, PRIMARY KEY (call_id, revision)
    );
    CREATE TABLE costs (
        call_id TEXT NOT NULL, revision BIGINT NOT NULL, number BIGINT NOT NULL, outcome TEXT NOT NULL,
        seconds DOUBLE PRECISION NOT NULL, prompt BIGINT, cached BIGINT, completion BIGINT, thinking BIGINT,
        is_estimate BIGINT NOT NULL, price TEXT NOT NULL, cost BIGINT NOT NULL, low BIGINT NOT NULL,
        high BIGINT NOT NULL, PRIMARY KEY (call_id, revision, number)
    );
    CREATE TABLE replicas (id TEXT NOT NULL PRIMARY KEY, seen DOUBLE PRECISION NOT NULL);

    -- what stands of a settled call: its latest revision
    CREATE VIEW settled AS
        SELECT * FROM settlements s
        WHERE revision = (SELECT MAX(revision) FROM settlements t WHERE t.call_id = s.call_id);
    CREATE VIEW spent AS
        SELECT c.id AS call_id, c.at, c.key_id, c.team, c.task, c.asked, c.face, a.number, a.provider, a.model,
            a.upstream, s.kind, x.outcome, x.seconds, x.prompt, x.cached, x.completion, x.thinking, x.is_estimate,
            x.price, x.cost, x.low, x.high
        FROM calls c JOIN settled s ON s.call_id = c.id
        JOIN costs x ON x.call_id = s.call_id AND x.revision = s.revision
        JOIN attempts a ON a.call_id = x.call_id AND a.number = x.number;

    CREATE TABLE votes (
        call_id TEXT NOT NULL, key_id TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, task TEXT NOT NULL,
        model TEXT NOT NULL, is_good BIGINT NOT NULL, PRIMARY KEY (call_id, key_id)
    );

    CREATE TABLE audit (number BIGINT NOT NULL PRIMARY KEY, line TEXT NOT NULL);

    CREATE TABLE content (
        call_id TEXT NOT NULL PRIMARY KEY, key_id TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        kept_until DOUBLE PRECISION NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL
    );
    CREATE INDEX content_by_end ON content (kept_until);
    """,
    "ALTER TABLE attempts ADD COLUMN reserve BIGINT NOT NULL DEFAULT 0;\n",  # nano, beside what the call reserved
    """
    -- tokens of the prompt that were written into a cache, and of these for an hour
    ALTER TABLE costs ADD COLUMN written BIGINT;
    ALTER TABLE costs ADD COLUMN written_1h BIGINT;
    DROP VIEW spent;
    CREATE VIEW spent AS
        SELECT c.id AS call_id, c.at, c.key_id, c.team, c.task, c.asked, c.face, a.number, a.provider, a.model,
            a.upstream, s.kind, x.outcome, x.seconds, x.prompt, x.cached, x.completion, x.thinking, x.written,
            x.written_1h, x.is_estimate, x.price, x.cost, x.low, x.high
        FROM calls c JOIN settled s ON s.call_id = c.id
        JOIN costs x ON x.call_id = s.call_id AND x.revision = s.revision
        JOIN attempts a ON a.call_id = x.call_id AND a.number = x.number;
    """,
)


async def migrate(db: Database) -> None:
    """Bring the store to the newest version; one replica does it, the others wait.

    Raises `ValueError` where the store was written by a newer version: nothing is touched then.
    """

    async def work(tx: Transaction) -> None:
        await tx.alone("migrations")
        await tx.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        rows = await tx.fetch("SELECT version FROM schema_version")
        version = rows[0][0] if rows else 0
        if version > len(MIGRATIONS):
            raise ValueError(
                f"the store has version {version} of its tables; this inhouse knows {len(MIGRATIONS)}: "
                "use the newer one that wrote it"
            )
        for step in MIGRATIONS[version:]:
            for statement in step.split(";\n"):
                if statement.strip():
                    await tx.execute(statement)
        if version < len(MIGRATIONS):
            await tx.execute("DELETE FROM schema_version")
            await tx.execute("INSERT INTO schema_version VALUES (?)", len(MIGRATIONS))
        for procedure in procedures.ALL if db.has_procedures else ():
            await tx.execute(procedure)

    await db.run(work)
