package org.futoin.eventstream;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;

/**
 * One receiver of a conformance case: made of the case's options, with a handler that fails and waits as the case says.
 */
final class ScriptedReceiver implements ReceiverListener {
    private final EventStream stream;
    private final String name;
    private final JsonNode setting;
    private final Writer reports;
    private final CompletableFuture<Receiver> started = new CompletableFuture<>();
    private final CompletableFuture<Void> end = new CompletableFuture<>();
    private final Map<Long, JsonNode> behaviour = new HashMap<>();
    private final Map<Long, Integer> calls = new ConcurrentHashMap<>();
    private final Map<Long, Integer> buried = new ConcurrentHashMap<>();
    private final Semaphore released = new Semaphore(0);

    ScriptedReceiver(EventStream stream, JsonNode setting, Writer reports) {
        this.stream = stream;
        this.setting = setting;
        this.name = setting.get("name").textValue();
        this.reports = reports;
        setting.path("handler").forEach(rule -> behaviour.put(rule.get("event").longValue(), rule));
    }

    String name() {
        return name;
    }

    void start() {
        var options = setting.get("options");
        var receiver = setting.get("kind").textValue().equals("live") ? live(options) : reliable(options);
        started.complete(receiver);
        receiver.completion().whenComplete((done, error) -> {
            ended(error);
            end.complete(null);
        });
    }

    void tell(String what) {
        switch (what) {
            case "start" -> start();
            case "stop" -> started.join().stop();
            case "cancel" -> started.join().cancel();
            case "release" -> released.release();
            default -> throw new IllegalArgumentException(what);
        }
    }

    /** The script is over, and has judged already when this receiver is not. */
    void giveUp() {
        end.complete(null);
        started.thenAccept(Receiver::cancel);
    }

    void awaitEnd() {
        end.join();
    }

    private Receiver live(JsonNode options) {
        var builder = stream.live();
        common(builder, options);
        return byGroup(options) ? builder.handleGroups(this::handleGroup) : builder.handle(this::handle);
    }

    private Receiver reliable(JsonNode options) {
        var builder = stream.receiver(options.get("component").textValue());
        common(builder, options);
        if (options.has("start")) {
            var start = start(options.get("start"));
            if (options.path("replay").asBoolean()) {
                builder.replayFrom(start);
            } else {
                builder.startAt(start);
            }
        }
        if (options.has("register")) {
            builder.register(options.get("register").booleanValue());
        }
        if (options.has("conflict")) {
            builder.conflict(
                    Conflict.valueOf(options.get("conflict").textValue().toUpperCase(java.util.Locale.ROOT)));
        }
        if (options.has("workers")) {
            builder.workers(
                    options.get("workers").intValue(), event -> event.data().path("k"));
        }
        if (options.has("max_in_flight_events")) {
            builder.maxInFlightEvents(options.get("max_in_flight_events").intValue());
        }
        if (options.has("max_in_flight_bytes")) {
            builder.maxInFlightBytes(options.get("max_in_flight_bytes").longValue());
        }
        return byGroup(options) ? builder.handleGroups(this::handleGroup) : builder.handle(this::handle);
    }

    private static boolean byGroup(JsonNode options) {
        return options.path("by").asText().equals("group");
    }

    private static Start start(JsonNode start) {
        return start.has("now")
                ? Start.now()
                : Start.afterId(start.get("after_id").longValue());
    }

    private void common(ReceiverBuilder<?> builder, JsonNode options) {
        var known = Backoff.DEFAULT;
        builder.clientLabel(name)
                .listener(this)
                .backoff(
                        millis(options, "backoff_initial_ms", known.initial()),
                        millis(options, "backoff_max_ms", known.max()))
                .onFailure(policy(options.path("on_failure")));
        if (options.has("want")) {
            builder.want(
                    options.get("want").valueStream().map(JsonNode::textValue).toList());
        }
        if (options.has("max_group_events")) {
            builder.maxGroupEvents(options.get("max_group_events").intValue());
        }
        if (options.has("max_linger_ms")) {
            builder.maxLinger(millis(options, "max_linger_ms", null));
        }
        if (options.has("heartbeat_interval_ms")) {
            builder.heartbeatInterval(millis(options, "heartbeat_interval_ms", null));
        }
    }

    private static Duration millis(JsonNode options, String name, Duration otherwise) {
        return options.has(name) ? Duration.ofMillis(options.get(name).longValue()) : otherwise;
    }

    private FailurePolicy policy(JsonNode policy) {
        if (policy.has("dead_letter")) {
            return FailurePolicy.deadLetter(
                    policy.get("dead_letter").get("attempts").intValue(), this::deadLetter);
        }
        return policy.asText().equals("stop") ? FailurePolicy.stop() : FailurePolicy.retry();
    }

    private void handleGroup(java.util.List<Event> events) throws Exception {
        for (var event : events) {
            handle(event);
        }
    }

    private void handle(Event event) throws InterruptedException {
        report("handle", event);
        int call = calls.merge(event.id(), 1, Integer::sum);
        var rule = behaviour.get(event.id());
        if (rule != null && rule.path("wait").asBoolean()) {
            released.acquire();
        }
        if (rule != null
                && rule.has("fail")
                && (rule.get("fail").isTextual() || call <= rule.get("fail").intValue())) {
            throw new IllegalStateException("call " + call + " fails as the case says");
        }
        report("handled", event);
    }

    private void deadLetter(Event event, Throwable error) {
        report("dead_letter", event);
        int call = buried.merge(event.id(), 1, Integer::sum);
        var rule = behaviour.get(event.id());
        if (rule != null && call <= rule.path("dead_letter_fail").asInt()) {
            throw new IllegalStateException("dead letter " + call + " fails as the case says");
        }
    }

    @Override
    public void onReconnect(int attempt, Duration delay, EventStreamException error) {
        report(did("reconnect").put("attempt", attempt).put("delay_ms", delay.toMillis()));
    }

    @Override
    public void onDropped(long total) {
        report(did("dropped").put("count", total));
    }

    private void ended(Throwable error) {
        var report = did("ended");
        if (error instanceof ServiceException service) {
            report.putObject("error")
                    .put("kind", "service")
                    .put("code", service.code().name())
                    .put("reason", service.reason());
        } else if (error instanceof HandlerException handler) {
            report.putObject("error")
                    .put("kind", "handler")
                    .put("event", handler.event().id());
        } else {
            report.putNull("error");
        }
        report(report);
    }

    private ObjectNode did(String what) {
        return JsonNodeFactory.instance.objectNode().put("receiver", name).put("did", what);
    }

    private void report(String what, Event event) {
        report(did(what).put("id", event.id()));
    }

    private void report(ObjectNode report) {
        synchronized (reports) {
            try {
                reports.write(report + "\n");
                reports.flush();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
