package org.futoin.eventstream;

import java.io.IOException;
import java.util.regex.Pattern;

/** What the service would refuse, refused here before anything is sent or inserted. */
final class Rules {
    /** Bytes of one event's data as UTF-8. */
    static final int MAX_DATA_BYTES = 8 << 20;

    /** Bytes of one message, both ways. */
    static final int MAX_MESSAGE_BYTES = 16 << 20;

    /** Events of one call of AddEvents, and of one batch of an import. */
    static final int MAX_BATCH_EVENTS = 1000;

    private static final Pattern TYPE = Pattern.compile("[A-Z_]{1,16}");
    private static final Pattern TABLE = Pattern.compile("[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)?");

    private Rules() {}

    static String type(String type) {
        if (type == null || !TYPE.matcher(type).matches()) {
            throw new InvalidEventException("type", "must match ^[A-Z_]{1,16}$");
        }
        return type;
    }

    static String table(String name) {
        if (name == null || !TABLE.matcher(name).matches()) {
            throw new InvalidEventException("table", "must be letters, digits, _ and at most one . between them");
        }
        return name;
    }

    static String data(String json) {
        if (json == null) {
            throw new InvalidEventException("data", "must be JSON text");
        }
        if (utf8Length(json) > MAX_DATA_BYTES) {
            throw new InvalidEventException("data", "must have at most 8 MiB");
        }
        try {
            Json.check(json);
        } catch (IOException e) {
            throw new InvalidEventException("data", "must be well-formed JSON", e);
        }
        return json;
    }

    /** Half a surrogate pair has no form in UTF-8: an encoder would replace it silently. */
    private static long utf8Length(String text) {
        long length = text.length();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < 0x80) {
                continue;
            }
            if (!Character.isSurrogate(c)) {
                length += c < 0x800 ? 1 : 2;
                continue;
            }
            boolean pair = i + 1 < text.length() && Character.isSurrogatePair(c, text.charAt(i + 1));
            if (!pair) {
                throw new InvalidEventException("data", "must be Unicode: half a surrogate pair at " + i);
            }
            length += 2;
            i++;
        }
        return length;
    }
}
