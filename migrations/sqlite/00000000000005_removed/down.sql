ALTER TABLE vault_members DROP COLUMN removed_at;
