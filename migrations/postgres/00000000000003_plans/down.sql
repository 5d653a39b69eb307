DROP TABLE failures;
UPDATE tenants SET plan = 'home' WHERE plan = 'team';
DELETE FROM plans WHERE plan = 'team';
ALTER TABLE plans DROP COLUMN limit_factor;
