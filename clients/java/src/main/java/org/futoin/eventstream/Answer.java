package org.futoin.eventstream;

import io.grpc.stub.StreamObserver;

/** The answer to one call, for a receiver that must hear a stop meanwhile. */
final class Answer<T> implements StreamObserver<T> {
    private final Monitor monitor;
    private T value;
    private ServiceException error;

    Answer(Monitor monitor) {
        this.monitor = monitor;
    }

    /** False when the receiver is to stop and there is no answer yet. */
    boolean await() throws InterruptedException {
        monitor.await(() -> value != null || error != null || monitor.stopping());
        return value != null || error != null;
    }

    T value() {
        return value;
    }

    ServiceException error() {
        return error;
    }

    @Override
    public void onNext(T response) {
        monitor.update(() -> value = response);
    }

    @Override
    public void onError(Throwable failure) {
        monitor.update(() -> error = ServiceException.of(failure));
    }

    @Override
    public void onCompleted() {}
}
