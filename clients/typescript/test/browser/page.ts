/** The page of `browser.test.ts`: what an application in a browser does with the client. */
import { EventStream, ServiceError, type Event, type ReliableReceiver } from '@futoin/eventstream';

/** What the test calls and is told. */
declare global {
  interface Window {
    report: (what: string, value: string) => Promise<void>;
    app: App;
  }
}

class App {
  #stream: EventStream | undefined;
  #receiver: ReliableReceiver | undefined;

  subscribe(address: string, component: string, type: string): void {
    this.#stream = new EventStream(address);
    this.#receiver = this.#stream.receive(component, (event) => this.#handle(event), {
      want: [type],
      backoff: { initialMs: 20, maxMs: 200 },
      onReconnect: (attempt) => void window.report('reconnect', String(attempt)),
      onStarted: (epoch) => void window.report('started', String(epoch)),
    });
  }

  async add(type: string, n: string): Promise<string> {
    const id = await this.#stream?.addEvent(type, { n: BigInt(n), s: '😀' });
    return String(id);
  }

  async refused(): Promise<string> {
    try {
      await this.#stream?.admin.seek('NOBODY', 'oldest');
      return 'nothing was refused';
    } catch (error) {
      return error instanceof ServiceError ? `${error.code} ${error.reason}` : String(error);
    }
  }

  async stop(): Promise<void> {
    await this.#receiver?.stop();
  }

  async #handle({ id, data }: Event): Promise<void> {
    await window.report('event', `${id} ${(data as { n: bigint }).n}`);
  }
}

window.app = new App();
