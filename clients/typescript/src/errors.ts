/**
 * Everything that can go wrong, by class. All extend {@link EventStreamError}.
 *
 * @module
 */
import { Code as ConnectCode, ConnectError } from '@connectrpc/connect';
import { durationMs } from '@bufbuild/protobuf/wkt';

import type { Event } from './event.js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from './gen/google/rpc/error_details_pb.js';

/** The codes of gRPC. */
export type Code =
  | 'CANCELLED'
  | 'UNKNOWN'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

const CODES: Readonly<Record<ConnectCode, Code>> = {
  [ConnectCode.Canceled]: 'CANCELLED',
  [ConnectCode.Unknown]: 'UNKNOWN',
  [ConnectCode.InvalidArgument]: 'INVALID_ARGUMENT',
  [ConnectCode.DeadlineExceeded]: 'DEADLINE_EXCEEDED',
  [ConnectCode.NotFound]: 'NOT_FOUND',
  [ConnectCode.AlreadyExists]: 'ALREADY_EXISTS',
  [ConnectCode.PermissionDenied]: 'PERMISSION_DENIED',
  [ConnectCode.ResourceExhausted]: 'RESOURCE_EXHAUSTED',
  [ConnectCode.FailedPrecondition]: 'FAILED_PRECONDITION',
  [ConnectCode.Aborted]: 'ABORTED',
  [ConnectCode.OutOfRange]: 'OUT_OF_RANGE',
  [ConnectCode.Unimplemented]: 'UNIMPLEMENTED',
  [ConnectCode.Internal]: 'INTERNAL',
  [ConnectCode.Unavailable]: 'UNAVAILABLE',
  [ConnectCode.DataLoss]: 'DATA_LOSS',
  [ConnectCode.Unauthenticated]: 'UNAUTHENTICATED',
};

/** Base of every error of this library. */
export class EventStreamError extends Error {
  /** The name of the class. */
  override name = 'EventStreamError';
}

/** An event, or the name of its table, breaks a rule; nothing was sent or inserted. */
export class InvalidEventError extends EventStreamError {
  /** The name of the class. */
  override name = 'InvalidEventError';

  /** @internal */
  constructor(
    /** What is wrong: `type`, `data`, `table`, `events`. */
    readonly field: string,
    /** What it must be. */
    readonly rule: string,
    options?: ErrorOptions,
  ) {
    super(`${field} ${rule}`, options);
  }
}

/** A handler failed and the receiver was told to stop then. The handler's error is the `cause`. */
export class HandlerError extends EventStreamError {
  /** The name of the class. */
  override name = 'HandlerError';

  /** @internal */
  constructor(
    /** The event; the first of its group for a handler of groups. */
    readonly event: Event,
    cause: unknown,
  ) {
    super(`the handler failed on event ${event.id}: ${String(cause)}`, { cause });
  }
}

/** What a {@link ServiceError} knows beside its code. */
export interface ServiceErrorDetails {
  /** Reason of the contract (`types.proto`), such as `NOT_REGISTERED`; unset for faults of the connection. */
  readonly reason?: string;
  /** The field of the request that breaks a rule. */
  readonly field?: string;
  /** The service asks to come back no sooner, in milliseconds. */
  readonly retryAfterMs?: number;
  /** Whether a failed call has certainly done nothing (`none`). */
  readonly effect?: 'none' | 'unknown';
  /** Further figures, by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The service refused a call or ended a stream, or could not be reached. */
export class ServiceError extends EventStreamError implements ServiceErrorDetails {
  /** The name of the class. */
  override name = 'ServiceError';
  readonly reason?: string;
  readonly field?: string;
  readonly retryAfterMs?: number;
  readonly effect?: 'none' | 'unknown';
  readonly metadata: Readonly<Record<string, string>> = {};

  /** @internal */
  constructor(
    /** Code of gRPC. */
    readonly code: Code,
    message: string,
    details: Partial<ServiceErrorDetails> = {},
    options?: ErrorOptions,
  ) {
    super(`${code}: ${message}`, options);
    Object.assign(this, details);
  }

  /**
   * Any failure of a call or a stream as an error of this library.
   *
   * @internal
   */
  static from(cause: unknown): EventStreamError {
    if (cause instanceof EventStreamError) {
      return cause;
    }
    const error = ConnectError.from(cause);
    return new ServiceError(codeOf(error), error.rawMessage, detailsOf(error), { cause });
  }
}

// The transports have codes of their own for a connection that cannot be made
// or ends in the middle of something (ABORTED, INTERNAL, CANCELLED, ...). They
// made the error themselves when it carries nothing from the peer.
function codeOf(error: ConnectError): Code {
  const own = error.details.length === 0 && [...error.metadata.keys()].length === 0;
  return own && error.code !== ConnectCode.DeadlineExceeded ? 'UNAVAILABLE' : CODES[error.code];
}

function detailsOf(error: ConnectError): Partial<ServiceErrorDetails> {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const violation = error.findDetails(BadRequestSchema)[0]?.fieldViolations[0];
  const effect = info?.metadata.effect;
  return {
    ...(info && { reason: info.reason, metadata: info.metadata }),
    ...(retry?.retryDelay && { retryAfterMs: durationMs(retry.retryDelay) }),
    ...(violation && { field: violation.field }),
    ...((effect === 'none' || effect === 'unknown') && { effect }),
  };
}
