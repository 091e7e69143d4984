package org.futoin.eventstream;

import java.util.List;

/** An event that is not stored yet, checked. */
public final class NewEvent {
    private final String type;
    private final String dataJson;

    private NewEvent(String type, String dataJson) {
        this.type = Rules.type(type);
        this.dataJson = Rules.data(dataJson);
    }

    /**
     * An event whose data is a value, written by Jackson. A {@code String} becomes a JSON string; for ready JSON text
     * use {@link #ofJson}.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param data a map, list, record, bean, tree, number, string or null
     * @return the event
     * @throws InvalidEventException when it breaks a rule
     */
    public static NewEvent of(String type, Object data) {
        return new NewEvent(type, Json.write(data));
    }

    /**
     * An event whose data is ready JSON text, stored as given.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param json one well-formed JSON value, at most 8 MiB as UTF-8
     * @return the event
     * @throws InvalidEventException when it breaks a rule
     */
    public static NewEvent ofJson(String type, String json) {
        return new NewEvent(type, json);
    }

    /**
     * What happened.
     *
     * @return the type
     */
    public String type() {
        return type;
    }

    /**
     * The data.
     *
     * @return JSON text
     */
    public String dataJson() {
        return dataJson;
    }

    org.futoin.evt.v1.NewEvent toProto() {
        return org.futoin.evt.v1.NewEvent.newBuilder()
                .setType(type)
                .setDataJson(dataJson)
                .build();
    }

    static List<org.futoin.evt.v1.NewEvent> toProto(List<NewEvent> events) {
        return events.stream().map(NewEvent::toProto).toList();
    }
}
