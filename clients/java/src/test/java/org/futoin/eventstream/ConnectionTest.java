package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.lang.ProcessBuilder.Redirect;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.futoin.evt.v1.AdminServiceGrpc;
import org.futoin.evt.v1.GetStatusRequest;
import org.futoin.evt.v1.GetStatusResponse;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Ways to the service: a Unix socket, a service that is killed and comes back, TLS and tokens. */
class ConnectionTest {
    @TempDir
    Path directory;

    @Test
    void aKilledServiceIsFoundAgainOnItsUnixSocket() throws Exception {
        var inbox = new Services.Inbox();
        var address = "unix:" + directory.resolve("socket");
        var service = serve(address);
        try (var stream = EventStream.connect(address)) {
            try (var receiver = stream.receive("J_unix", inbox)) {
                long first = stream.addEvent("J_UNIX", 1);
                assertEquals(first, inbox.take().id());
                service.destroyForcibly().waitFor();
                service = serve(address);
                long second = stream.addEvent("J_UNIX", 2);
                while (inbox.take().id() != second) {
                    // The first may come again: it was acknowledged, or it was not.
                }
                receiver.stop();
                receiver.await();
                assertEquals(second, stream.admin().register("J_unix").getPosition());
            }
        } finally {
            service.destroyForcibly().waitFor();
        }
    }

    @Test
    void anImportThatIsBrokenOffAddsNothingTwice() throws Exception {
        var address = "unix:" + directory.resolve("socket");
        var services = new ArrayDeque<>(List.of(serve(address)));
        try (var stream = EventStream.connect(address)) {
            stream.admin().register("J_broken", Start.afterId(0));
            Iterable<NewEvent> events = () -> IntStream.range(0, 20_000)
                    .peek(n -> {
                        if (n == 15_000 && services.size() == 1) {
                            services.add(restart(services.peek(), address));
                        }
                    })
                    .mapToObj(n -> NewEvent.of("J_BROKEN", n))
                    .iterator();
            assertEquals(20_000, stream.importEvents(events, UUID.randomUUID()).getEventCount());
            int expected = 0;
            for (var event : stream.poll("J_broken")) {
                assertEquals(expected++, event.data().intValue());
            }
            assertEquals(20_000, expected);
            assertEquals(2, services.size());
        } finally {
            services.getLast().destroyForcibly().waitFor();
        }
    }

    private Process restart(Process service, String address) {
        try {
            service.destroyForcibly().waitFor();
            return serve(address);
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    @Test
    void aClosedClientStopsItsReceivers() throws Exception {
        var stream = Services.connect("SQLITE");
        var receiver = stream.live().handle(new Services.Inbox());
        stream.close();
        receiver.await();
    }

    private Process serve(String address) throws IOException {
        return new ProcessBuilder(
                        Services.variable("TEST_EVENTSTREAM"),
                        "serve",
                        "--db",
                        "sqlite:" + directory.resolve("shop.db"),
                        "--grpc",
                        address,
                        "--http",
                        "127.0.0.1:0")
                .redirectErrorStream(true)
                .redirectOutput(Redirect.DISCARD)
                .start();
    }

    @Test
    void tlsAndTokensReachTheServer() throws Exception {
        var certificate = directory.resolve("certificate.pem");
        var key = directory.resolve("key.pem");
        certify(certificate, key);
        var tokens = new LinkedBlockingQueue<String>();
        var server = serveTls(certificate, key, tokens);
        var address = "https://localhost:" + server.getPort();
        try (var trusting = EventStream.builder(address)
                        .authority(certificate)
                        .certificate(certificate, key)
                        .token("secret")
                        .build();
                var distrusting = EventStream.builder(address)
                        .timeout(Duration.ofMillis(1))
                        .build();
                var tokenless = EventStream.builder(address)
                        .authority(certificate)
                        .token(() -> {
                            throw new IllegalStateException("no token today");
                        })
                        .build()) {
            assertEquals("over TLS", trusting.admin().status().getVersion());
            assertEquals("Bearer secret", tokens.take());
            assertThrows(ServiceException.class, () -> distrusting.admin().status());
            var error =
                    assertThrows(ServiceException.class, () -> tokenless.admin().status());
            assertEquals(Status.Code.UNAUTHENTICATED, error.code());
            assertTrue(tokens.isEmpty());
        } finally {
            server.shutdownNow().awaitTermination(30, TimeUnit.SECONDS);
        }
    }

    private static void certify(Path certificate, Path key) throws Exception {
        var command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
                + " -addext subjectAltName=DNS:localhost -keyout " + key + " -out " + certificate;
        var made = new ProcessBuilder(command.split(" "))
                .redirectErrorStream(true)
                .redirectOutput(Redirect.DISCARD)
                .start();
        assertEquals(0, made.waitFor());
    }

    /** The service itself has no TLS yet: this one shows what a client says to one that has. */
    private static Server serveTls(Path certificate, Path key, BlockingQueue<String> tokens) throws IOException {
        var credentials = TlsServerCredentials.newBuilder()
                .keyManager(certificate.toFile(), key.toFile())
                .trustManager(certificate.toFile())
                .clientAuth(TlsServerCredentials.ClientAuth.OPTIONAL)
                .build();
        var service = new AdminServiceGrpc.AdminServiceImplBase() {
            @Override
            public void getStatus(GetStatusRequest request, StreamObserver<GetStatusResponse> observer) {
                observer.onNext(
                        GetStatusResponse.newBuilder().setVersion("over TLS").build());
                observer.onCompleted();
            }
        };
        return Grpc.newServerBuilderForPort(0, credentials)
                .addService(service)
                .intercept(new Tokens(tokens))
                .build()
                .start();
    }

    private record Tokens(BlockingQueue<String> seen) implements ServerInterceptor {
        @Override
        public <Q, R> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
            seen.add(headers.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
            return next.startCall(call, headers);
        }
    }
}
