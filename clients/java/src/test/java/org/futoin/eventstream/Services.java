package org.futoin.eventstream;

import java.net.URI;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The real services that the tests run against, see scripts/with-services.sh. */
final class Services {
    /** How long a test waits for what must come. */
    static final Duration PATIENCE = Duration.ofSeconds(30);

    private Services() {}

    static String variable(String name) {
        var value = System.getenv(name);
        if (value == null) {
            throw new AssertionError(name + " is not set: run scripts/with-services.sh clients/java/test.sh");
        }
        return value;
    }

    static EventStream connect(String engine) {
        return EventStream.connect("http://" + variable("TEST_" + engine));
    }

    /** The database behind a service, by one of the drivers. */
    static String jdbc(String engine, String driver) {
        var database = variable("TEST_" + engine + "_DB");
        if (engine.equals("SQLITE")) {
            return "jdbc:sqlite:" + database + "?busy_timeout=20000";
        }
        var url = URI.create(database);
        var user = url.getUserInfo().split(":");
        var password = user.length > 1 ? "&password=" + user[1] : "";
        return "jdbc:%s://%s:%d%s?user=%s%s"
                .formatted(driver, url.getHost(), url.getPort(), url.getPath(), user[0], password);
    }

    /** What a handler got, for a test that waits for it. */
    static final class Inbox implements EventHandler {
        private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();

        @Override
        public void handle(Event event) {
            events.add(event);
        }

        Event take() throws InterruptedException {
            return Services.take(events);
        }

        boolean isEmpty() {
            return events.isEmpty();
        }
    }

    static <T> T take(BlockingQueue<T> queue) throws InterruptedException {
        var item = queue.poll(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        if (item == null) {
            throw new AssertionError("nothing came in " + PATIENCE);
        }
        return item;
    }
}
