-- What a replica said of its own fullness was never more than its blobs' sizes, which are here; when it last
-- told them nobody asks.
ALTER TABLE replicas DROP COLUMN used_bytes;
ALTER TABLE replicas DROP COLUMN inventory_ms;
