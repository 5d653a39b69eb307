-- Who was removed from a vault may read how it came to that, and no further.

-- The entry that removed who is no member any more; null where that was not written down.
ALTER TABLE vault_members ADD COLUMN removed_at integer CHECK (removed_at > 0);
