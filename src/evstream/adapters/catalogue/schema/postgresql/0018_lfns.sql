-- Other workload managers name files by their LFNs, without a dataset.
ALTER TABLE file ADD COLUMN lfn TEXT NOT NULL DEFAULT '';

UPDATE file SET lfn = record::json ->> 'lfn';

CREATE INDEX file_by_lfn ON file (lfn, seq) WHERE retracted = 0;
