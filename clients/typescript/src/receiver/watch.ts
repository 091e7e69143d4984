/**
 * Notices a peer that has gone silent.
 *
 * Silence is counted in ticks of a timer, not read from a clock: while this
 * process itself is busy or asleep, no ticks come and nobody is blamed.
 *
 * @module
 */

const SILENT_HEARTBEATS = 3;
const TICKS_PER_HEARTBEAT = 4;

export class Watch {
  readonly #onSilent: () => void;
  #timer: ReturnType<typeof setInterval> | undefined;
  #silentTicks = 0;
  #paused = false;

  constructor(intervalMs: number, onSilent: () => void) {
    this.#onSilent = onSilent;
    this.every(intervalMs);
  }

  /** Heartbeats come this often, from now on. */
  every(intervalMs: number): void {
    this.heard();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#tick(), intervalMs / TICKS_PER_HEARTBEAT);
  }

  /** Something was read. */
  heard(): void {
    this.#silentTicks = 0;
  }

  /** Nothing is read while `work` goes on, so nothing can be heard. */
  async during(work: Promise<void>): Promise<void> {
    this.#paused = true;
    await work;
    this.#paused = false;
    this.heard();
  }

  end(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    if (!this.#paused && ++this.#silentTicks > SILENT_HEARTBEATS * TICKS_PER_HEARTBEAT) {
      this.end();
      this.#onSilent();
    }
  }
}
