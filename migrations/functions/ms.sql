-- ms(): how services read intervals.

CREATE OR REPLACE FUNCTION ms(p_interval interval) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT floor(extract(epoch FROM p_interval) * 1000)::bigint $$;
COMMENT ON FUNCTION ms IS 'An interval in whole milliseconds; planned as if the expression stood there';
GRANT EXECUTE ON FUNCTION ms TO aethelos_meta_repair, aethelos_execution;
