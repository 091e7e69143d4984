package org.futoin.eventstream;

import java.util.ArrayList;
import java.util.List;
import org.futoin.evt.v1.Consumer;
import org.futoin.evt.v1.GetStatusRequest;
import org.futoin.evt.v1.GetStatusResponse;
import org.futoin.evt.v1.ListConsumersRequest;
import org.futoin.evt.v1.RegisterConsumerRequest;
import org.futoin.evt.v1.SeekConsumerRequest;
import org.futoin.evt.v1.SkipFrontierRequest;
import org.futoin.evt.v1.SkipFrontierResponse;
import org.futoin.evt.v1.UnregisterConsumerRequest;

/** Calls for operators, with the messages of the contract. They throw {@link ServiceException}. */
public final class Admin {
    private final Service service;

    Admin(Service service) {
        this.service = service;
    }

    /**
     * Registers a component that starts with the oldest event kept; doing it again changes nothing.
     *
     * @param component {@code ^[A-Za-z0-9_]{1,16}$}
     * @return as it is now
     */
    public Consumer register(String component) {
        return register(RegisterConsumerRequest.newBuilder().setComponent(component));
    }

    /**
     * Registers a component; doing it again changes nothing.
     *
     * @param component {@code ^[A-Za-z0-9_]{1,16}$}
     * @param start where a new registration starts
     * @return as it is now
     */
    public Consumer register(String component, Start start) {
        return register(
                RegisterConsumerRequest.newBuilder().setComponent(component).setStart(start.toProto()));
    }

    private Consumer register(RegisterConsumerRequest.Builder request) {
        return service.repeated(limit -> service.poll(limit).registerConsumer(request.build()))
                .getConsumer();
    }

    /**
     * Forgets a component, so that it holds no events back.
     *
     * @param component registered by the caller
     */
    public void unregister(String component) {
        var request =
                UnregisterConsumerRequest.newBuilder().setComponent(component).build();
        service.once(limit -> service.admin(limit).unregisterConsumer(request));
    }

    /**
     * Every component that the caller may see.
     *
     * @return all pages
     */
    public List<Consumer> consumers() {
        var consumers = new ArrayList<Consumer>();
        String token = "";
        do {
            var request = ListConsumersRequest.newBuilder().setPageToken(token).build();
            var page = service.repeated(limit -> service.admin(limit).listConsumers(request));
            consumers.addAll(page.getConsumersList());
            token = page.getNextPageToken();
        } while (!token.isEmpty());
        return consumers;
    }

    /**
     * Moves a component's position, backwards too, and ends its session.
     *
     * @param component registered by the caller
     * @param start the new position
     * @return as it is now
     */
    public Consumer seek(String component, Start start) {
        var request = SeekConsumerRequest.newBuilder()
                .setComponent(component)
                .setStart(start.toProto())
                .build();
        return service.once(limit -> service.admin(limit).seekConsumer(request)).getConsumer();
    }

    /**
     * The stream at a glance.
     *
     * @return what holds events back, among others
     */
    public GetStatusResponse status() {
        return service.repeated(limit -> service.admin(limit).getStatus(GetStatusRequest.getDefaultInstance()));
    }

    /**
     * Gives up ids whose transaction cannot be ended. Events up to there that are not visible are <b>lost</b>, even if
     * they are committed later.
     *
     * @param to where the frontier shall be at least
     * @param reason for whoever reads the log later; at most 500 characters
     * @return what was skipped
     */
    public SkipFrontierResponse skipFrontier(long to, String reason) {
        var request = SkipFrontierRequest.newBuilder()
                .setTo(to)
                .setAcceptLoss(true)
                .setReason(reason)
                .build();
        return service.once(limit -> service.admin(limit).skipFrontier(request));
    }
}
