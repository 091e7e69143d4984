package org.futoin.eventstream;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.UUID;
import org.futoin.evt.v1.ImportEventsRequest;
import org.futoin.evt.v1.ImportEventsResponse;

/** One import: batches with request ids that follow from the import's, sent again from where the service is. */
final class Import {
    /** Bytes of data of one batch, well below the largest message whatever its envelope. */
    private static final int BATCH_BYTES = 1 << 20;

    private final Service service;
    private final Iterable<NewEvent> events;
    private final UUID id;
    private ImportEventsResponse total = ImportEventsResponse.getDefaultInstance();

    Import(Service service, Iterable<NewEvent> events, UUID id) {
        this.service = service;
        this.events = events;
        this.id = id;
    }

    ImportEventsResponse run() {
        long deadline = System.nanoTime() + service.timeout().toNanos();
        for (int attempt = 1; ; attempt++) {
            service.refresh();
            var upload = new Upload(new Batches(total.getBatchCount()));
            service.genStub().importEvents(upload);
            var error = upload.await();
            total = sum(total, upload.committed());
            if (error == null) {
                return total;
            }
            if (upload.committed().getBatchCount() > 0) {
                attempt = 1;
                deadline = System.nanoTime() + service.timeout().toNanos();
            }
            var delay = Backoff.DEFAULT.delay(attempt, error);
            if (!error.mayRepeat() || System.nanoTime() + delay.toNanos() >= deadline) {
                throw error;
            }
            Service.sleep(delay);
        }
    }

    private static ImportEventsResponse sum(ImportEventsResponse before, ImportEventsResponse now) {
        if (now.getBatchCount() == 0) {
            return before;
        }
        return now.toBuilder()
                .setBatchCount(before.getBatchCount() + now.getBatchCount())
                .setEventCount(before.getEventCount() + now.getEventCount())
                .setFirstId(before.getBatchCount() > 0 ? before.getFirstId() : now.getFirstId())
                .build();
    }

    /** The batches after the first so many; a batch has the same events and the same id each time. */
    private final class Batches implements Iterator<ImportEventsRequest> {
        private final Iterator<NewEvent> rest = events.iterator();
        private NewEvent ahead;
        private long number;

        Batches(long skipped) {
            while (number < skipped && hasNext()) {
                next();
            }
        }

        @Override
        public boolean hasNext() {
            return ahead != null || rest.hasNext();
        }

        @Override
        public ImportEventsRequest next() {
            var batch = ImportEventsRequest.newBuilder().setRequestId(requestId(number++));
            long size = 0;
            while (hasNext() && batch.getEventsCount() < Rules.MAX_BATCH_EVENTS) {
                var event = ahead == null ? rest.next() : ahead;
                ahead = null;
                size += event.dataJson().length();
                if (size > BATCH_BYTES && batch.getEventsCount() > 0) {
                    ahead = event;
                    break;
                }
                batch.addEvents(event.toProto());
            }
            return batch.build();
        }

        private String requestId(long number) {
            var name = id + "/" + number;
            return UUID.nameUUIDFromBytes(name.getBytes(StandardCharsets.UTF_8)).toString();
        }
    }

    /** One call; it reads no further ahead of the service than gRPC's own window. */
    private static final class Upload implements ClientResponseObserver<ImportEventsRequest, ImportEventsResponse> {
        private final Monitor monitor = new Monitor();
        private final Iterator<ImportEventsRequest> batches;
        private ClientCallStreamObserver<ImportEventsRequest> call;
        private ImportEventsResponse committed = ImportEventsResponse.getDefaultInstance();
        private ServiceException error;
        private boolean done;

        Upload(Iterator<ImportEventsRequest> batches) {
            this.batches = batches;
        }

        @Override
        public void beforeStart(ClientCallStreamObserver<ImportEventsRequest> stream) {
            call = stream;
            stream.setOnReadyHandler(() -> monitor.update(() -> {}));
        }

        /** Sends everything, and returns why that did not succeed, or null. */
        ServiceException await() {
            try {
                send();
                monitor.await(() -> done);
                return error;
            } catch (InterruptedException e) {
                call.cancel("interrupted", e);
                Thread.currentThread().interrupt();
                throw ServiceException.of(Status.CANCELLED.withCause(e).asRuntimeException());
            } catch (RuntimeException e) {
                call.cancel("the events could not be read", e);
                throw e;
            }
        }

        private void send() throws InterruptedException {
            while (batches.hasNext()) {
                var batch = batches.next();
                monitor.await(() -> done || call.isReady());
                if (monitor.read(() -> done)) {
                    return;
                }
                call.onNext(batch);
            }
            call.onCompleted();
        }

        ImportEventsResponse committed() {
            return committed;
        }

        @Override
        public void onNext(ImportEventsResponse response) {
            monitor.update(() -> committed = response);
        }

        @Override
        public void onError(Throwable failure) {
            monitor.update(() -> {
                error = ServiceException.of(failure);
                committed = figures(error);
                done = true;
            });
        }

        @Override
        public void onCompleted() {
            monitor.update(() -> done = true);
        }

        /** The same four figures, in the error's metadata; none when the connection was lost. */
        private static ImportEventsResponse figures(ServiceException error) {
            return ImportEventsResponse.newBuilder()
                    .setBatchCount(figure(error, "batch_count"))
                    .setEventCount(figure(error, "event_count"))
                    .setFirstId(figure(error, "first_id"))
                    .setLastId(figure(error, "last_id"))
                    .build();
        }

        private static long figure(ServiceException error, String name) {
            return Long.parseLong(error.metadata().getOrDefault(name, "0"));
        }
    }
}
