/**
 * Receivers as `for await`: the body of the loop is the handler.
 *
 * @module
 */
import type { Event } from '../event.js';
import { ABANDONED } from './handling.js';
import type { GroupHandler } from './options.js';
import type { Receiver } from './receiver.js';

interface Handed {
  readonly event: Event;
  readonly handled: () => void;
  readonly giveUp: (reason: unknown) => void;
}

/**
 * The events of a receiver, one at a time. An event is handled when the next
 * one is asked for; a loop that is left gives its event back.
 */
export async function* iterate(
  begin: (handler: GroupHandler) => Receiver,
): AsyncGenerator<Event, void, undefined> {
  let current: Handed | undefined;
  let ended = false;
  let wake: (() => void) | undefined;
  const end = () => {
    ended = true;
    wake?.();
  };
  const receiver = begin(([event]) => {
    return new Promise<void>((handled, giveUp) => {
      current = event && { event, handled, giveUp };
      wake?.();
    });
  });
  // Its error is thrown by `stop` below.
  receiver.done.then(end, end);
  try {
    for (;;) {
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (current ?? ended) {
          resolve();
        }
      });
      if (!current) {
        return;
      }
      const { event, handled }: Handed = current;
      yield event;
      current = undefined;
      handled();
    }
  } finally {
    const stopped = receiver.stop();
    current?.giveUp(ABANDONED);
    await stopped;
  }
}
