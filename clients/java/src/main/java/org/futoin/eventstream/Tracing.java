package org.futoin.eventstream;

/** What is wrapped around each call of a handler. */
@FunctionalInterface
interface Tracing {
    Tracing NONE = (component, handler) -> handler;

    GroupHandler around(String component, GroupHandler handler);
}
