/**
 * Calls the user's handler, and does what the policy says when it fails.
 *
 * @module
 */
import { HandlerError } from '../errors.js';
import type { Event } from '../event.js';
import type { Log } from '../log.js';
import { delayMs, pause, type Backoff } from '../retry.js';
import type { DeadLetters, GroupHandler, OnFailure, Tracing } from './options.js';
import type { Unit } from './work.js';

/** The reason for which an unfinished iteration gives its event back. */
export const ABANDONED = new Error('the iteration ended within this event');

const DEAD_LETTER_ATTEMPTS = 5;

/** What a receiver's user has said about handling. */
export interface HandlingRules {
  readonly component: string;
  readonly handler: GroupHandler;
  readonly onFailure: OnFailure;
  readonly backoff: Backoff;
  readonly log: Log;
  readonly tracing: Tracing | undefined;
  readonly cancelled: AbortSignal;
}

export class Handling {
  readonly #rules: HandlingRules;
  // Of events that are not handled yet, by id: a session that is lost does not forgive.
  readonly #failures = new Map<bigint, number>();

  constructor(rules: HandlingRules) {
    this.#rules = rules;
  }

  /**
   * Handles one unit. False when it has failed and `over` leaves no time to try
   * again: it comes again in another session.
   *
   * @throws HandlerError when the policy is to stop
   */
  async handle(unit: Unit, over: AbortSignal): Promise<boolean> {
    const [{ id }] = unit.events as [Event];
    for (;;) {
      const attempt = (this.#failures.get(id) ?? 0) + 1;
      try {
        await this.#call(unit, attempt);
        this.#failures.delete(id);
        return true;
      } catch (error) {
        if (error === ABANDONED || this.#rules.cancelled.aborted) {
          return false;
        }
        this.#failures.set(id, attempt);
        if (await this.#settled(unit, attempt, error)) {
          this.#failures.delete(id);
          return true;
        }
      }
      await pause(delayMs(attempt, this.#rules.backoff), over);
      if (over.aborted) {
        return false;
      }
    }
  }

  async #call(unit: Unit, attempt: number): Promise<void> {
    const { component, handler, tracing, cancelled } = this.#rules;
    const context = { attempt, signal: cancelled };
    if (!tracing) {
      await handler(unit.events, context);
      return;
    }
    await tracing({ component, events: unit.events, attempt }, async () => {
      await handler(unit.events, context);
    });
  }

  // The policy's answer to a failure; true when the unit is done with.
  async #settled(unit: Unit, attempt: number, error: unknown): Promise<boolean> {
    const { component, log, onFailure } = this.#rules;
    const [first] = unit.events as [Event];
    log('warn', 'the handler failed', { component, event: first.id, attempt, error });
    if (onFailure === 'stop') {
      throw new HandlerError(first, error);
    }
    if (onFailure === 'retry' || attempt < (onFailure.attempts ?? DEAD_LETTER_ATTEMPTS)) {
      return false;
    }
    return this.#buried(unit, onFailure, error);
  }

  async #buried(unit: Unit, letters: DeadLetters, error: unknown): Promise<boolean> {
    const { component, log } = this.#rules;
    try {
      for (const event of unit.events) {
        await letters.deadLetter(event, error);
      }
      return true;
    } catch (failure) {
      log('error', 'the dead letter callback failed', {
        component,
        event: unit.events[0]?.id,
        error: failure,
      });
      return false;
    }
  }
}
