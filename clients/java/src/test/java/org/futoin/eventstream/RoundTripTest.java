package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.math.BigInteger;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The client beside the real service. */
class RoundTripTest {
    private static final String TYPE = "J_ROUND";

    private final Services.Inbox inbox = new Services.Inbox();
    private EventStream stream;

    record Order(long order, String item) {}

    @BeforeEach
    void connect() {
        stream = Services.connect("SQLITE");
    }

    @AfterEach
    void close() {
        stream.close();
    }

    @Test
    void anEventIsReceivedToTheLetter() throws Exception {
        stream.admin().register("J_letter", Start.now());
        var text = "{ \"order\": 9007199254740993, \"item\": \"\\\"tea\\\" 😀\", \"price\": 1.10 }";
        long id = stream.addEventJson(TYPE, text);
        try (var receiver = stream.receiver("J_letter").want(TYPE).handle(inbox)) {
            var event = inbox.take();
            assertEquals(id, event.id());
            assertEquals(text, event.dataJson());
            assertEquals(9007199254740993L, event.data().get("order").longValue());
            assertEquals("1.10", event.data().get("price").decimalValue().toString());
            assertEquals(new Order(9007199254740993L, "\"tea\" 😀"), event.data(Order.class));
            assertTrue(event.ts().isPresent());
            receiver.stop();
            receiver.await();
        }
        assertTrue(position("J_letter") >= id);
    }

    @Test
    void valuesAreWrittenCompactAndExact() throws Exception {
        stream.admin().register("J_values", Start.now());
        stream.addEvent(TYPE, new Order(1, "tea 😀"));
        stream.addEvent(TYPE, Map.of("n", new BigInteger("123456789012345678901234567890")));
        stream.addEvent(TYPE, "{}");
        try (var receiver = stream.receiver("J_values").want(TYPE).handle(inbox)) {
            assertEquals("{\"order\":1,\"item\":\"tea 😀\"}", inbox.take().dataJson());
            assertEquals("{\"n\":123456789012345678901234567890}", inbox.take().dataJson());
            assertEquals("{}", inbox.take().data().textValue());
        }
    }

    @Test
    void theSameRequestAddsOnce() {
        var request = UUID.randomUUID();
        var event = NewEvent.of(TYPE, 1);
        assertEquals(stream.addEvent(event, request), stream.addEvent(event, request));
        var error = assertThrows(ServiceException.class, () -> stream.addEvent(NewEvent.of(TYPE, 2), request));
        assertEquals(Status.Code.ALREADY_EXISTS, error.code());
        assertEquals("REQUEST_ID_REUSED", error.reason());
    }

    @Test
    void aBatchAndAnImportKeepTheirOrder() throws Exception {
        stream.admin().register("J_import", Start.now());
        var ids = stream.addEvents(List.of(NewEvent.of("J_IMPORT", 0), NewEvent.of("J_IMPORT", 1)));
        assertTrue(ids.get(0) < ids.get(1));
        var events = IntStream.range(2, 2502)
                .mapToObj(n -> NewEvent.of("J_IMPORT", n))
                .toList();
        var importId = UUID.randomUUID();
        var report = stream.importEvents(events, importId);
        assertEquals(3, report.getBatchCount());
        assertEquals(2500, report.getEventCount());
        assertEquals(report, stream.importEvents(events, importId), "the same import adds nothing");
        var groups = new LinkedBlockingQueue<Event>();
        try (var receiver = stream.receiver("J_import").want("J_IMPORT").handleGroups(groups::addAll)) {
            for (int n = 0; n < 2502; n++) {
                assertEquals(n, Services.take(groups).data().intValue());
            }
            receiver.stop();
            receiver.await();
        }
        assertTrue(groups.isEmpty());
    }

    @Test
    void aPolledPageIsAcknowledgedByTheNext() {
        stream.admin().register("J_poll", Start.now());
        var ids =
                stream.addEvents(List.of(NewEvent.of("J_POLL", 1), NewEvent.of("J_POLL", 2), NewEvent.of("J_POLL", 3)));
        var poll = stream.poll("J_poll").want("J_POLL").pageSize(2).maxWait(Services.PATIENCE);
        var first = poll.iterator();
        assertEquals(ids.get(0), first.next().id());
        assertEquals(ids.get(1), first.next().id());
        assertTrue(position("J_poll") < ids.get(1));
        assertEquals(ids.get(2), first.next().id());
        assertEquals(ids.get(1), position("J_poll"));

        var again = new ArrayList<Long>();
        for (var event : stream.poll("J_poll").want("J_POLL")) {
            again.add(event.id());
        }
        assertEquals(List.of(ids.get(2)), again);
        assertTrue(position("J_poll") >= ids.get(2));
    }

    @Test
    void aLiveReceiverGetsWhatHappensNow() throws Exception {
        stream.addEvent("J_LIVE", "before");
        var started = new CountDownLatch(1);
        var listener = new ReceiverListener() {
            @Override
            public void onStarted(long epoch, long startAfterId) {
                started.countDown();
            }
        };
        try (var live = stream.live().want("J_LIVE").listener(listener).handle(inbox)) {
            started.await();
            stream.addEvent("J_LIVE", "now");
            assertEquals("now", inbox.take().data().textValue());
            assertEquals(0, live.dropped());
        }
    }

    @Test
    void operatorsCallsWork() {
        var admin = stream.admin();
        assertEquals("J_admin", admin.register("J_admin", Start.afterId(0)).getComponent());
        assertTrue(admin.consumers().stream().anyMatch(c -> c.getComponent().equals("J_admin")));
        assertEquals("sqlite", admin.status().getDatabase());
        assertEquals(0, admin.seek("J_admin", Start.afterId(0)).getPosition());
        admin.unregister("J_admin");
        var error = assertThrows(ServiceException.class, () -> admin.unregister("J_admin"));
        assertEquals("NOT_REGISTERED", error.reason());
    }

    @Test
    void errorsNameTheFieldAndEndReceivers() throws Exception {
        var error = assertThrows(ServiceException.class, () -> stream.admin().register("no component"));
        assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
        assertEquals("INVALID_FIELD", error.reason());
        assertEquals("component", error.field());

        var receiver = stream.receiver("J_nobody").register(false).handle(inbox);
        var end = assertThrows(ServiceException.class, receiver::await);
        assertEquals("NOT_REGISTERED", end.reason());
        receiver.close();
        assertTrue(receiver.completion().isCompletedExceptionally());
    }

    @Test
    void aCancelledHandlerIsInterruptedAndNotAcknowledged() throws Exception {
        stream.admin().register("J_cancel", Start.now());
        long id = stream.addEvent("J_CANCEL", 1);
        var entered = new CountDownLatch(1);
        var receiver = stream.receiver("J_cancel").want("J_CANCEL").handle(event -> {
            entered.countDown();
            new CountDownLatch(1).await();
        });
        entered.await();
        receiver.cancel();
        assertThrows(CancellationException.class, receiver::await);
        assertTrue(position("J_cancel") < id);
    }

    @Test
    void aHandlerMayCloseItsOwnReceiver() throws Exception {
        stream.admin().register("J_close", Start.now());
        long id = stream.addEvent("J_CLOSE", 1);
        var self = new LinkedBlockingQueue<ReliableReceiver>();
        var receiver = stream.receiver("J_close").want("J_CLOSE").handle(event -> Services.take(self)
                .close());
        self.add(receiver);
        receiver.await();
        assertTrue(position("J_close") >= id);
    }

    @Test
    void callsGiveUpWhenTheirTimeIsOver() {
        try (var nobody = EventStream.builder("127.0.0.1:1")
                .timeout(Duration.ofMillis(300))
                .build()) {
            var error = assertThrows(ServiceException.class, () -> nobody.addEvent(TYPE, 1));
            assertTrue(error.mayRepeat(), error.getMessage());
            var receiver = nobody.receive("J_never", inbox);
            receiver.close();
            assertFalse(receiver.completion().isCompletedExceptionally());
        }
    }

    private long position(String component) {
        return stream.admin().register(component).getPosition();
    }
}
