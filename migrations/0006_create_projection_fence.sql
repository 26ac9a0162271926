-- Ends the transaction of a runner that another one overtook: its checkpoints are not where it believes. A function, so that
-- the whole batch can be sent at once, without waiting for an answer before the rows follow.
CREATE FUNCTION projection_fence(moved bigint, wanted integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF moved <> wanted THEN
        RAISE EXCEPTION 'another runner moved a checkpoint' USING ERRCODE = 'OB001';
    END IF;
END $$;
