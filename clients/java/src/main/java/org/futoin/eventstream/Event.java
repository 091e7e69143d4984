package org.futoin.eventstream;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * One event of the stream. Events never change.
 *
 * @param id its place in the stream: positive, growing, gaps allowed
 * @param type what happened, {@code ^[A-Z_]{1,16}$}
 * @param dataJson the data, to the letter as it was stored
 * @param ts when it was stored by the database's clock, for reference, never an order; empty when the application
 *     stored no time
 */
public record Event(long id, String type, String dataJson, Optional<Instant> ts) {

    static Event of(org.futoin.evt.v1.Event event) {
        var ts = event.hasTs() ? Optional.of(Times.of(event.getTs())) : Optional.<Instant>empty();
        return new Event(event.getId(), event.getType(), event.getDataJson(), ts);
    }

    static List<Event> of(List<org.futoin.evt.v1.Event> events) {
        return events.stream().map(Event::of).toList();
    }

    /**
     * Parses the data. Integers of any size and decimals are exact.
     *
     * @return a new tree each time
     * @throws EventStreamException when it is not JSON
     */
    public JsonNode data() {
        return data(JsonNode.class);
    }

    /**
     * Parses the data into a class or record, by Jackson. Properties that it does not have are ignored.
     *
     * @param type what to make of it
     * @param <T> the same
     * @return a new object each time
     * @throws EventStreamException when the data does not fit
     */
    public <T> T data(Class<T> type) {
        try {
            return Json.read(dataJson, type);
        } catch (JsonProcessingException e) {
            throw new EventStreamException("data of event " + id + " is no " + type.getSimpleName(), e);
        }
    }
}
