package org.futoin.eventstream;

import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import io.opentelemetry.api.OpenTelemetry;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** Options of an {@link EventStream}; made by {@link EventStream#builder}. */
public final class EventStreamBuilder {
    private static final String USER_AGENT = "futoin-eventstream-java/0.1.0";
    private static final Duration PING_INTERVAL = Duration.ofSeconds(30);
    private static final Duration PING_TIMEOUT = Duration.ofSeconds(20);

    private final String address;
    private Path authority;
    private Path certificate;
    private Path key;
    private String serverName;
    private CallCredentials token;
    private Duration timeout = Duration.ofSeconds(30);
    private Tracing tracing = Tracing.NONE;

    EventStreamBuilder(String address) {
        this.address = address;
    }

    /**
     * The authority that signed the service's certificate; by default those of the system.
     *
     * @param pem file of certificates
     * @return this
     */
    public EventStreamBuilder authority(Path pem) {
        this.authority = pem;
        return this;
    }

    /**
     * The client's own certificate.
     *
     * @param certificate PEM file
     * @param key PEM file, PKCS#8
     * @return this
     */
    public EventStreamBuilder certificate(Path certificate, Path key) {
        this.certificate = certificate;
        this.key = key;
        return this;
    }

    /**
     * The name to expect in the service's certificate; by default the host of the address.
     *
     * @param name of the certificate
     * @return this
     */
    public EventStreamBuilder serverName(String name) {
        this.serverName = name;
        return this;
    }

    /**
     * A bearer token that is sent with every call.
     *
     * @param token without the word Bearer
     * @return this
     */
    public EventStreamBuilder token(String token) {
        return token(() -> token);
    }

    /**
     * A bearer token that is asked for before every call.
     *
     * @param token may block and may throw; then the call fails with {@code UNAUTHENTICATED}
     * @return this
     */
    public EventStreamBuilder token(Supplier<String> token) {
        this.token = new BearerToken(token);
        return this;
    }

    /**
     * How long a call is tried, repetitions included. Streams have no limit.
     *
     * @param timeout by default 30 s
     * @return this
     */
    public EventStreamBuilder timeout(Duration timeout) {
        this.timeout = timeout;
        return this;
    }

    /**
     * Makes a span of each call of a handler; needs {@code opentelemetry-api}.
     *
     * @param telemetry for instance {@code GlobalOpenTelemetry.get()}
     * @return this
     */
    public EventStreamBuilder openTelemetry(OpenTelemetry telemetry) {
        this.tracing = new OpenTelemetryTracing(telemetry);
        return this;
    }

    /**
     * Makes the client. It connects when it is first used, and again whenever it must.
     *
     * @return the client
     * @throws IllegalArgumentException when the address is none
     * @throws UncheckedIOException when a PEM file cannot be read
     */
    public EventStream build() {
        return new EventStream(new Service(channel().build(), token, timeout, tracing));
    }

    private ManagedChannelBuilder<?> channel() {
        var channel = Grpc.newChannelBuilder(target(), credentials())
                .userAgent(USER_AGENT)
                .maxInboundMessageSize(Rules.MAX_MESSAGE_BYTES)
                .keepAliveTime(PING_INTERVAL.toSeconds(), TimeUnit.SECONDS)
                .keepAliveTimeout(PING_TIMEOUT.toSeconds(), TimeUnit.SECONDS)
                .disableRetry();
        if (serverName != null) {
            return channel.overrideAuthority(serverName);
        }
        // Of a socket gRPC would make the path a host name, which servers refuse.
        return isUnix() ? channel.overrideAuthority("localhost") : channel;
    }

    private boolean isUnix() {
        return address.startsWith("unix:");
    }

    private String target() {
        if (isUnix()) {
            return address;
        }
        var hostAndPort = address.replaceFirst("^https?://", "").replaceFirst("/$", "");
        if (hostAndPort.isEmpty() || hostAndPort.contains("/")) {
            throw new IllegalArgumentException(
                    "an address is http://HOST:PORT, https://HOST:PORT or unix:PATH, not " + address);
        }
        return "dns:///" + hostAndPort;
    }

    private ChannelCredentials credentials() {
        if (!address.startsWith("https://")) {
            return InsecureChannelCredentials.create();
        }
        var tls = TlsChannelCredentials.newBuilder();
        try {
            if (authority != null) {
                tls.trustManager(authority.toFile());
            }
            if (certificate != null) {
                tls.keyManager(certificate.toFile(), key.toFile());
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return tls.build();
    }
}
