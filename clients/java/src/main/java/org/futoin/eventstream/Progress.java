package org.futoin.eventstream;

import java.util.ArrayDeque;

/** How far the events of a session are handled without a gap, whatever the order they finish in. Not thread-safe. */
final class Progress {
    private final ArrayDeque<Entry> open = new ArrayDeque<>();
    private long position;

    /** Events up to a position, to be done later. */
    static final class Entry {
        private final long position;
        private boolean done;

        private Entry(long position) {
            this.position = position;
        }
    }

    Entry add(long position) {
        var entry = new Entry(position);
        open.add(entry);
        return entry;
    }

    void done(Entry entry) {
        entry.done = true;
        while (!open.isEmpty() && open.peek().done) {
            position = open.poll().position;
        }
    }

    /** Everything up to here is done; 0 before the first. */
    long position() {
        return position;
    }
}
