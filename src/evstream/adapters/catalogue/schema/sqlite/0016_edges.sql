-- What the head has decided of an edge and why, and what the edge said of itself last, as JSON.
ALTER TABLE edge ADD COLUMN state TEXT NOT NULL DEFAULT 'serving';
ALTER TABLE edge ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE edge ADD COLUMN status TEXT NOT NULL DEFAULT '{}';
