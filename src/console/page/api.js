// The service: calls, and streams that a browser's EventSource could not open,
// because it cannot send the credentials.

const KEY = 'eventstream-token';

export const credentials = {
  get: () => sessionStorage.getItem(KEY),
  set: (token) => sessionStorage.setItem(KEY, token),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Failure extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

// Longer than the service waits for its database.
const PATIENCE = 15_000;

export async function call(path, body) {
  const response = await send(path, body, AbortSignal.timeout(PATIENCE));
  return response.json();
}

async function send(path, body, signal) {
  const headers = {};
  const token = credentials.get();
  if (token) headers.authorization = `Bearer ${token}`;
  const options = { headers, signal, cache: 'no-store', redirect: 'error' };
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    Object.assign(options, { method: 'POST', body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch (error) {
    throw new Failure(0, 'UNREACHABLE', error.name === 'TimeoutError' ? 'the service does not answer' : 'the service cannot be reached');
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Failure(response.status, error?.reason ?? 'UNKNOWN', error?.message ?? `the service answered ${response.status}`);
}

// Calls `heard(name, data)` for each message until the stream ends.
export async function follow(path, heard, signal) {
  const response = await send(path, undefined, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const messages = (rest + value).split('\n\n');
    rest = messages.pop();
    for (const message of messages) {
      let name = 'message';
      let data = '';
      for (const line of message.split('\n')) {
        if (line.startsWith('event: ')) name = line.slice(7);
        if (line.startsWith('data: ')) data += line.slice(6);
      }
      heard(name, JSON.parse(data));
    }
  }
}
