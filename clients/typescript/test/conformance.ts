/** Plays one case of `clients/conformance`: makes the receivers it asks for, and tells what they do. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import {
  EventStream,
  HandlerError,
  ServiceError,
  type Event,
  type GroupHandler,
  type LiveOptions,
  type OnFailure,
  type ReceiveOptions,
  type Receiver,
} from '@futoin/eventstream';

import { deferred, Inbox } from './services.js';

interface Handling {
  event: number;
  fail?: number | 'always';
  wait?: boolean;
  dead_letter_fail?: number;
}

interface Spec {
  name: string;
  kind: 'reliable' | 'live';
  wait: boolean;
  options: Record<string, unknown> & { component: string; want?: string[]; by?: string };
  handler: Handling[];
}

interface Tell {
  tell: 'start' | 'stop' | 'cancel' | 'release';
  receiver: string;
}

type Report = (did: string, details: object) => void;

/** Gives what differed; undefined when the case was played well. */
export async function play(scripted: string, name: string): Promise<string | undefined> {
  const process = spawn(scripted, ['--case', name], { stdio: ['pipe', 'pipe', 'pipe'] });
  const verdict = new Promise<number | null>((resolve) => process.on('close', resolve));
  // It may have judged already.
  process.stdin.on('error', () => undefined);
  let differed = '';
  process.stderr.setEncoding('utf8').on('data', (text: string) => (differed += text));
  const lines = createInterface(process.stdout)[Symbol.asyncIterator]();
  const first = await lines.next();
  if (first.done) {
    return `no announcement: ${differed}`;
  }
  const { address, receivers } = JSON.parse(first.value) as { address: string; receivers: Spec[] };
  const players = new Map(
    receivers.map((spec) => {
      const report: Report = (did, details) => {
        process.stdin.write(`${JSON.stringify({ receiver: spec.name, did, ...details })}\n`);
      };
      return [spec.name, new Player(`http://${address}`, spec, report)];
    }),
  );
  receivers.filter(({ wait }) => !wait).forEach(({ name }) => players.get(name)?.start());
  void finish([...players.values()]).then(() => process.stdin.end());
  for await (const line of { [Symbol.asyncIterator]: () => lines }) {
    const { tell, receiver } = JSON.parse(line) as Tell;
    players.get(receiver)?.[tell]();
  }
  const code = await verdict;
  players.forEach((player) => player.cancel());
  return code === 0 ? undefined : differed;
}

async function finish(players: Player[]): Promise<void> {
  await Promise.all(players.map(({ ended }) => ended));
  await Promise.all(players.map((player) => player.close()));
}

class Player {
  readonly #stream: EventStream;
  readonly #spec: Spec;
  readonly #report: Report;
  readonly #cancel = new AbortController();
  readonly #calls = new Map<number, number>();
  readonly #releases = new Inbox<undefined>();
  /** Handlers that have waited for one, or do: each needs one of its own. */
  #waits = 0;
  readonly #cancelled = deferred<undefined>();
  readonly #ended = deferred<undefined>();
  #receiver: Receiver | undefined;

  constructor(address: string, spec: Spec, report: Report) {
    this.#stream = new EventStream(address, { log: () => undefined });
    this.#spec = spec;
    this.#report = report;
  }

  get ended(): Promise<unknown> {
    return this.#ended.promise;
  }

  start(): void {
    this.#receiver = this.#begin();
    this.#receiver.done.then(
      () => this.#end(null),
      (error: unknown) => this.#end(described(error)),
    );
  }

  stop(): void {
    this.#receiver?.stop().catch(() => undefined);
  }

  cancel(): void {
    this.#cancelled.resolve(undefined);
    this.#cancel.abort();
  }

  release(): void {
    this.#releases.add(undefined);
  }

  close(): Promise<void> {
    return this.#stream.close();
  }

  #begin(): Receiver {
    const { kind, options } = this.#spec;
    const handler: GroupHandler = async (events) => {
      for (const event of events) {
        await this.#handle(Number(event.id));
      }
    };
    const byEvent = (event: Event) => this.#handle(Number(event.id));
    const byGroup = options.by === 'group';
    if (kind === 'live') {
      const live: LiveOptions = {
        ...this.#options(),
        onDropped: (total) => this.#report('dropped', { count: Number(total) }),
      };
      return byGroup ? this.#stream.liveGroups(handler, live) : this.#stream.live(byEvent, live);
    }
    return byGroup
      ? this.#stream.receiveGroups(options.component, handler, this.#options())
      : this.#stream.receive(options.component, byEvent, this.#options());
  }

  #options(): ReceiveOptions {
    const given = this.#spec.options;
    const number = (from: string, to: string) => (from in given ? { [to]: Number(given[from]) } : {});
    const start = given.start as { after_id: number } | undefined;
    return {
      clientLabel: this.#spec.name,
      signal: this.#cancel.signal,
      register: given.register !== false,
      replay: given.replay === true,
      onFailure: this.#onFailure(),
      backoff: {
        ...number('backoff_initial_ms', 'initialMs'),
        ...number('backoff_max_ms', 'maxMs'),
      },
      onReconnect: (attempt, delayMs) => this.#report('reconnect', { attempt, delay_ms: delayMs }),
      ...(given.want && { want: given.want }),
      ...(start && { start: { afterId: BigInt(start.after_id) } }),
      ...('workers' in given && {
        workers: Number(given.workers),
        key: ({ data }: Event) => (data as { k: string }).k,
      }),
      ...number('max_in_flight_events', 'maxInFlightEvents'),
      ...number('max_in_flight_bytes', 'maxInFlightBytes'),
      ...number('max_group_events', 'maxGroupEvents'),
      ...number('max_linger_ms', 'maxLingerMs'),
      ...number('heartbeat_interval_ms', 'heartbeatIntervalMs'),
    };
  }

  #onFailure(): OnFailure {
    const policy = this.#spec.options.on_failure ?? 'retry';
    if (policy === 'retry' || policy === 'stop') {
      return policy;
    }
    const { attempts } = (policy as { dead_letter: { attempts: number } }).dead_letter;
    let calls = 0;
    const deadLetter = ({ id }: Event) => {
      this.#report('dead_letter', { id: Number(id) });
      if (++calls <= (this.#planned(Number(id))?.dead_letter_fail ?? 0)) {
        throw new Error('the callback was told to fail');
      }
    };
    return { attempts, deadLetter };
  }

  async #handle(id: number): Promise<void> {
    const call = (this.#calls.get(id) ?? 0) + 1;
    this.#calls.set(id, call);
    this.#report('handle', { id });
    const planned = this.#planned(id);
    if (planned?.wait) {
      this.#waits += 1;
      await Promise.race([this.#releases.atLeast(this.#waits), this.#cancelled.promise]);
      this.#cancel.signal.throwIfAborted();
    }
    if (planned?.fail === 'always' || call <= (planned?.fail ?? 0)) {
      throw new Error('the handler was told to fail');
    }
    this.#report('handled', { id });
  }

  #planned(id: number): Handling | undefined {
    return this.#spec.handler.find(({ event }) => event === id);
  }

  #end(error: object | null): void {
    this.#report('ended', { error });
    this.#ended.resolve(undefined);
  }
}

function described(error: unknown): object | null {
  if (error instanceof ServiceError) {
    return { kind: 'service', code: error.code, reason: error.reason };
  }
  if (error instanceof HandlerError) {
    return { kind: 'handler', event: Number(error.event.id) };
  }
  if (error instanceof DOMException && error.name === 'AbortError') {
    return null;
  }
  throw error;
}
