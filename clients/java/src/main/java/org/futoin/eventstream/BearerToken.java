package org.futoin.eventstream;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Puts a token into the header of each call, on a thread that may wait for it. */
final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Supplier<String> token;

    BearerToken(Supplier<String> token) {
        this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo request, Executor executor, MetadataApplier applier) {
        executor.execute(() -> apply(applier));
    }

    private void apply(MetadataApplier applier) {
        try {
            var headers = new Metadata();
            headers.put(AUTHORIZATION, "Bearer " + token.get());
            applier.apply(headers);
        } catch (RuntimeException e) {
            applier.fail(
                    Status.UNAUTHENTICATED.withDescription("there is no token").withCause(e));
        }
    }
}
