/**
 * When to try again, and when it is no use.
 *
 * @module
 */
import { ServiceError, type Code } from './errors.js';

/** Back-off: the delay doubles from the first to the greatest, and is drawn from its upper half. */
export interface Backoff {
  /** First delay, in milliseconds; 100 by default. */
  readonly initialMs: number;
  /** Greatest delay, in milliseconds; 10 000 by default. */
  readonly maxMs: number;
}

/** 100 ms to 10 s. */
export const DEFAULT_BACKOFF: Backoff = { initialMs: 100, maxMs: 10_000 };

// Timers of more fire at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const TRANSIENT: readonly Code[] = ['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED', 'UNKNOWN'];
const RECONNECT: readonly Code[] = [...TRANSIENT, 'ABORTED', 'INTERNAL', 'CANCELLED'];

/** Milliseconds to wait before the attempt after `attempt` (from 1), at least what the service asked for. */
export function delayMs(attempt: number, backoff: Backoff, error?: unknown): number {
  const full = Math.min(backoff.maxMs, backoff.initialMs * 2 ** (attempt - 1));
  const drawn = full * (0.5 + Math.random() / 2);
  return Math.max(drawn, error instanceof ServiceError ? (error.retryAfterMs ?? 0) : 0);
}

/** Waits; an aborted signal ends it early, without an error. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(ms, LONGEST_TIMER_MS));
    signal?.addEventListener('abort', end);
    if (signal?.aborted) {
      end();
    }
  });
}

/** Fulfilled with the work, or when the signal is aborted. */
export function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      signal.removeEventListener('abort', end);
      resolve();
    };
    signal.addEventListener('abort', end);
    void work.then(end);
    if (signal.aborted) {
      end();
    }
  });
}

/** A call that may be repeated as it is. */
export function isTransient(error: ServiceError): boolean {
  return TRANSIENT.includes(error.code);
}

/** The session is not this receiver's any more: its acknowledgements are refused, others stand by. */
export function isFenced(error: unknown): boolean {
  return error instanceof ServiceError && (error.reason === 'STALE_EPOCH' || error.reason === 'TAKEN_OVER');
}

/** The end of a session after which a receiver comes back. */
export function isReconnectable(error: unknown): error is ServiceError {
  return error instanceof ServiceError && (RECONNECT.includes(error.code) || isFenced(error));
}

/** How long a call may take, and who may end it. */
export interface CallOptions {
  /** For everything, retries included, in milliseconds; 30 000 by default. */
  readonly timeoutMs?: number;
  /** Ends the call; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What a transport wants to know of one attempt. */
export interface Attempt {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const ATTEMPT_TIMEOUT_MS = 10_000;

/** One call, once. */
export function once<T>(options: CallOptions, call: (attempt: Attempt) => Promise<T>): Promise<T> {
  return attempted(call, options.timeoutMs ?? DEFAULT_TIMEOUT_MS, options.signal);
}

/** One call, repeated until it is answered or its time is over. For calls that a repetition does not change. */
export async function retried<T>(options: CallOptions, call: (attempt: Attempt) => Promise<T>): Promise<T> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadline = performance.now() + timeoutMs;
  const attemptMs = Math.max(ATTEMPT_TIMEOUT_MS, timeoutMs / 3);
  for (let attempt = 1; ; attempt++) {
    const left = deadline - performance.now();
    try {
      return await attempted(call, Math.min(attemptMs, left), options.signal);
    } catch (error) {
      const wait = delayMs(attempt, DEFAULT_BACKOFF, error);
      const again = error instanceof ServiceError && isTransient(error);
      if (!again || performance.now() + wait >= deadline) {
        throw error;
      }
      await pause(wait, options.signal);
    }
  }
}

async function attempted<T>(
  call: (attempt: Attempt) => Promise<T>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  try {
    // A time-out is told to the peer in whole milliseconds.
    return await call({ timeoutMs: Math.ceil(timeoutMs), ...(signal && { signal }) });
  } catch (cause) {
    signal?.throwIfAborted();
    throw ServiceError.from(cause);
  }
}
