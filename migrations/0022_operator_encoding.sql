-- Workers on the bus that speak protobuf.
ALTER TABLE operator ADD COLUMN encoding text NOT NULL DEFAULT 'json',
  ADD CONSTRAINT operator_encoding_check CHECK (encoding = 'json' OR (encoding = 'protobuf' AND kind = 'bus'));
COMMENT ON COLUMN operator.encoding IS 'In what its workers on the bus are called, and answer: json or protobuf';
