ALTER TABLE grouped_graphs ADD COLUMN verdicts BIGINT NOT NULL DEFAULT 1;
ALTER TABLE grouped_graphs ADD COLUMN grouped_verdicts BIGINT NOT NULL DEFAULT 0;
DROP INDEX grouped_graphs_to_do;
CREATE INDEX grouped_graphs_to_do ON grouped_graphs (next_try) WHERE seen <> grouped OR verdicts <> grouped_verdicts;
