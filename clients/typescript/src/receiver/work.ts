/**
 * The handling of what one session delivers.
 *
 * Units of one key are handled in order, at most `workers` at a time. What is
 * reported as done has no gap below it.
 *
 * @module
 */
import type { Event } from '../event.js';
import { Queue } from './queue.js';

/** What a handler gets at once: an event, or a group. */
export interface Unit {
  readonly events: readonly Event[];
  /** The position when it and everything before it is handled. */
  readonly position: bigint;
}

interface Pending extends Unit {
  handled: boolean;
}

/** How units are handled. */
export interface WorkRules {
  readonly workers: number;
  readonly keyOf: (unit: Unit) => unknown;
  /** Handles one unit; false when it was given up because the session or the receiver ends. */
  readonly handle: (unit: Unit) => Promise<boolean>;
  /** The position moved. */
  readonly onPosition: (position: bigint) => void;
  /** A unit can never be handled. */
  readonly onFailed: (error: Error) => void;
}

export class Work {
  readonly #rules: WorkRules;
  // In the order of the stream, the first one not handled.
  readonly #pending = new Queue<Pending>();
  // Waiting units by key. A lane is in `#ready` or with a worker.
  readonly #lanes = new Map<unknown, Queue<Pending>>();
  readonly #ready = new Queue<{ key: unknown; lane: Queue<Pending> }>();
  #working = 0;
  #closed = false;
  #changed: (() => void)[] = [];

  constructor(rules: WorkRules) {
    this.#rules = rules;
  }

  /** Units that wait or are handled. */
  get size(): number {
    return this.#pending.size;
  }

  /** Takes a unit on; one without events only moves the position. */
  add(events: readonly Event[], position: bigint): void {
    if (this.#closed) {
      return;
    }
    const unit: Pending = { events, position, handled: events.length === 0 };
    this.#pending.push(unit);
    if (unit.handled) {
      this.#advance();
      return;
    }
    const key = this.#rules.keyOf(unit);
    const lane = this.#lanes.get(key);
    if (lane) {
      lane.push(unit);
      return;
    }
    const opened = new Queue<Pending>();
    opened.push(unit);
    this.#lanes.set(key, opened);
    this.#ready.push({ key, lane: opened });
    if (this.#working < this.#rules.workers) {
      this.#working++;
      void this.#worker();
    }
  }

  /** Forgets what has not begun. */
  close(): void {
    this.#closed = true;
    this.#notify();
  }

  /** Fulfilled when nothing is being handled. */
  async idle(): Promise<void> {
    while (this.#working > 0) {
      await this.#change();
    }
  }

  /** Fulfilled when fewer than `limit` units are left, or it is closed. */
  async below(limit: number): Promise<void> {
    while (this.size >= limit && !this.#closed) {
      await this.#change();
    }
  }

  async #worker(): Promise<void> {
    try {
      await this.#work();
    } catch (error) {
      this.#closed = true;
      this.#rules.onFailed(error as Error);
    }
    this.#working--;
    this.#notify();
  }

  async #work(): Promise<void> {
    for (let next = this.#ready.shift(); next && !this.#closed; next = this.#ready.shift()) {
      const { key, lane } = next;
      const unit = lane.shift();
      if (unit && !(await this.#rules.handle(unit))) {
        this.#closed = true;
        return;
      }
      if (unit) {
        unit.handled = true;
        this.#advance();
      }
      if (lane.size > 0) {
        this.#ready.push(next);
      } else {
        this.#lanes.delete(key);
      }
    }
  }

  #advance(): void {
    let position: bigint | undefined;
    while (this.#pending.first?.handled) {
      position = this.#pending.shift()?.position;
    }
    if (position !== undefined) {
      this.#rules.onPosition(position);
      this.#notify();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve));
  }

  #notify(): void {
    if (this.#changed.length > 0) {
      const changed = this.#changed;
      this.#changed = [];
      changed.forEach((resolve) => resolve());
    }
  }
}
