-- Events as CloudEvents: each generation is a source of its own, because after a restore numbers of events come again; and a subscription of webhooks says
-- in which form it is told.
ALTER TABLE generation ADD COLUMN source uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN generation.source IS 'As CloudEvents its events have the source urn:uuid:<this>';

ALTER TABLE webhook ADD COLUMN format text NOT NULL DEFAULT 'event' CHECK (format IN ('event', 'cloudevents'));
COMMENT ON COLUMN webhook.format IS 'event: the document of the admin port; cloudevents: the same as a CloudEvent';
GRANT SELECT (format) ON webhook TO aethelos_board;
