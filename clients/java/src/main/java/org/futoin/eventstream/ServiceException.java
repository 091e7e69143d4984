package org.futoin.eventstream;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/** The service refused or ended a call, or could not be reached. */
public final class ServiceException extends EventStreamException {
    private static final long serialVersionUID = 1;

    /** The gRPC code. */
    private final Status.Code code;

    /** Of ErrorInfo, or empty. */
    private final String reason;

    /** Of BadRequest, or empty. */
    private final String field;

    /** Of RetryInfo, or null. */
    private final Duration retryAfter;

    private final transient Map<String, String> metadata;

    private ServiceException(Throwable cause, Status status, com.google.rpc.Status details) {
        super(text(status, detail(details, ErrorInfo.class)), cause);
        var info = detail(details, ErrorInfo.class);
        code = status.getCode();
        reason = info.map(ErrorInfo::getReason).orElse("");
        metadata = info.map(ErrorInfo::getMetadataMap).orElse(Map.of());
        field = detail(details, BadRequest.class)
                .filter(bad -> bad.getFieldViolationsCount() > 0)
                .map(bad -> bad.getFieldViolations(0).getField())
                .orElse("");
        retryAfter = detail(details, RetryInfo.class)
                .map(retry -> Times.of(retry.getRetryDelay()))
                .orElse(null);
    }

    static ServiceException of(Throwable error) {
        return new ServiceException(error, Status.fromThrowable(error), StatusProto.fromThrowable(error));
    }

    private static String text(Status status, Optional<ErrorInfo> info) {
        var reason = info.map(i -> " / " + i.getReason()).orElse("");
        var description = status.getDescription() == null ? "" : ": " + status.getDescription();
        return status.getCode() + reason + description;
    }

    private static <T extends Message> Optional<T> detail(com.google.rpc.Status status, Class<T> type) {
        if (status == null) {
            return Optional.empty();
        }
        return status.getDetailsList().stream()
                .filter(any -> any.is(type))
                .findFirst()
                .flatMap(any -> unpack(any, type));
    }

    private static <T extends Message> Optional<T> unpack(Any any, Class<T> type) {
        try {
            return Optional.of(any.unpack(type));
        } catch (InvalidProtocolBufferException e) {
            return Optional.empty(); // What cannot be read says nothing; the code does.
        }
    }

    /**
     * The gRPC code.
     *
     * @return never {@code OK}
     */
    public Status.Code code() {
        return code;
    }

    /**
     * The service's reason, such as {@code NOT_REGISTERED}; the contract lists them.
     *
     * @return empty when the error did not come from the service
     */
    public String reason() {
        return reason;
    }

    /**
     * The field of the request that is at fault.
     *
     * @return empty when no single field is
     */
    public String field() {
        return field;
    }

    /**
     * How long the service asks to wait before the next try.
     *
     * @return empty when it does not say
     */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }

    /**
     * Whether the call has certainly done nothing ({@code none}) or may have done something ({@code unknown}).
     *
     * @return empty when the service does not say
     */
    public String effect() {
        return metadata().getOrDefault("effect", "");
    }

    /**
     * Everything the service says about the error.
     *
     * @return never null
     */
    public Map<String, String> metadata() {
        return metadata == null ? Map.of() : metadata;
    }

    /** True when another session owns the consumer now: nothing may be acknowledged by the old one. */
    boolean fenced() {
        return reason.equals("STALE_EPOCH") || reason.equals("TAKEN_OVER");
    }

    /** True when asking again cannot help. */
    boolean isFinal() {
        return switch (code) {
            case INVALID_ARGUMENT,
                    NOT_FOUND,
                    ALREADY_EXISTS,
                    PERMISSION_DENIED,
                    UNAUTHENTICATED,
                    UNIMPLEMENTED,
                    OUT_OF_RANGE,
                    DATA_LOSS -> true;
            case FAILED_PRECONDITION -> !reason.equals("STALE_EPOCH");
            default -> false;
        };
    }

    /** True when one and the same call may simply be repeated. */
    boolean mayRepeat() {
        return switch (code) {
            case UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED -> true;
            case UNKNOWN -> reason.isEmpty();
            default -> false;
        };
    }
}
