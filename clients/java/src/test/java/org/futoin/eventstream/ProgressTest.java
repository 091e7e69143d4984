package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class ProgressTest {
    private final Progress progress = new Progress();

    @Test
    void nothingIsHandledAtFirst() {
        progress.add(5);
        assertEquals(0, progress.position());
    }

    @Test
    void thePositionStopsBelowAGap() {
        var first = progress.add(5);
        var second = progress.add(7);
        var third = progress.add(9);
        progress.done(third);
        assertEquals(0, progress.position());
        progress.done(first);
        assertEquals(5, progress.position());
        progress.done(second);
        assertEquals(9, progress.position());
    }
}
