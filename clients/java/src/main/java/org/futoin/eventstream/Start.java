package org.futoin.eventstream;

import java.time.Instant;
import org.futoin.evt.v1.StartAt;

/** A place in the stream. */
public final class Start {
    private final StartAt at;

    private Start(StartAt.Builder at) {
        this.at = at.build();
    }

    /**
     * After an event.
     *
     * @param id its id; 0 is before the oldest event kept, archived ones included
     * @return the place
     */
    public static Start afterId(long id) {
        return new Start(StartAt.newBuilder().setAfterId(id));
    }

    /**
     * Before the first event that was stored at or after a time.
     *
     * @param time by the database's clock
     * @return the place
     */
    public static Start time(Instant time) {
        return new Start(StartAt.newBuilder().setTime(Times.of(time)));
    }

    /**
     * Only what settles from now on.
     *
     * @return the place
     */
    public static Start now() {
        return new Start(StartAt.newBuilder().setNow(true));
    }

    StartAt toProto() {
        return at;
    }
}
