-- Who was removed from a vault may read how it came to that, and no further.

ALTER TABLE vault_members ADD COLUMN removed_at bigint CHECK (removed_at > 0);
COMMENT ON COLUMN vault_members.removed_at IS
    'The entry that removed who is no member any more; null where that was not written down.';
