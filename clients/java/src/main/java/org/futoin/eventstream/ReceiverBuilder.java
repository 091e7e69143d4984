package org.futoin.eventstream;

import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import org.futoin.evt.v1.ReadyToReceiveRequest;
import org.futoin.evt.v1.Want;

/**
 * Options that reliable and live receivers share.
 *
 * @param <B> the builder itself
 */
public abstract sealed class ReceiverBuilder<B extends ReceiverBuilder<B>>
        permits ReliableReceiver.Builder, LiveReceiver.Builder {
    private static final int MAX_LABEL = 128;

    final Service service;
    final ReadyToReceiveRequest.Builder request;
    private FailurePolicy onFailure = FailurePolicy.retry();
    private Backoff backoff = Backoff.DEFAULT;
    private ReceiverListener listener = new ReceiverListener() {};

    ReceiverBuilder(Service service, String component) {
        this.service = service;
        this.request =
                ReadyToReceiveRequest.newBuilder().setComponent(component).setClientLabel(processAndHost());
    }

    private static String processAndHost() {
        var name = ManagementFactory.getRuntimeMXBean().getName();
        return name.substring(0, Math.min(name.length(), MAX_LABEL));
    }

    abstract B self();

    final Receiver.Settings settings() {
        return new Receiver.Settings(request.build(), onFailure, backoff, listener, service.tracing());
    }

    /**
     * Types of interest; by default every type.
     *
     * @param types each {@code ^[A-Z_]{1,16}$}
     * @return this
     * @throws InvalidEventException when one is no type
     */
    public B want(String... types) {
        return want(List.of(types));
    }

    /**
     * Types of interest; by default every type.
     *
     * @param types each {@code ^[A-Z_]{1,16}$}; none: nothing is wanted
     * @return this
     * @throws InvalidEventException when one is no type
     */
    public B want(Collection<String> types) {
        types.forEach(Rules::type);
        request.setWant(Want.newBuilder().addAllTypes(types));
        return self();
    }

    /**
     * What becomes of an event on which the handler fails; by default {@link FailurePolicy#retry()}.
     *
     * @param policy what to do
     * @return this
     */
    public B onFailure(FailurePolicy policy) {
        this.onFailure = policy;
        return self();
    }

    /**
     * Waits before reconnecting and before calling a failed handler again: doubled each time, jittered; by default from
     * 100 ms to 10 s.
     *
     * @param initial the first, positive
     * @param max the longest
     * @return this
     */
    public B backoff(Duration initial, Duration max) {
        this.backoff = new Backoff(initial, max);
        return self();
    }

    /**
     * Events of one group.
     *
     * @param events at most 1000; 0: the service's default
     * @return this
     */
    public B maxGroupEvents(int events) {
        request.setMaxGroupEvents(events);
        return self();
    }

    /**
     * How long the service may wait, from its first event, to fill a group; by default it never does.
     *
     * @param linger at least 0
     * @return this
     */
    public B maxLinger(Duration linger) {
        request.setMaxLinger(Times.of(linger));
        return self();
    }

    /**
     * How often an idle stream says that it lives. After three of these without a word the receiver reconnects.
     *
     * @param interval by default the service's, 10 s
     * @return this
     */
    public B heartbeatInterval(Duration interval) {
        request.setHeartbeatInterval(Times.of(interval));
        return self();
    }

    /**
     * What operators see of this receiver; by default the process and the host.
     *
     * @param label at most 128 characters
     * @return this
     */
    public B clientLabel(String label) {
        request.setClientLabel(label);
        return self();
    }

    /**
     * Hooks for what happens to the receiver.
     *
     * @param listener called by the receiver's threads
     * @return this
     */
    public B listener(ReceiverListener listener) {
        this.listener = listener;
        return self();
    }
}
