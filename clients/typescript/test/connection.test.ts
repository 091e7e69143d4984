import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer as createHttp2Server } from 'node:http2';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';

import { EventStream, EventStreamError } from '@futoin/eventstream';

import { freePort, Service } from './eventstream.js';
import { eventType, given, serviceOn } from './services.js';

let directory: string;
const servers: Server[] = [];
const sockets = new Set<Socket>();

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'eventstream-tls-'));
  const run = (...options: string[]) => execFileSync('openssl', options, { cwd: directory, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  run('req', '-x509', ...key, '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  for (const name of ['service', 'client']) {
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'subjectAltName=DNS:events.test'];
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`];
    run('req', '-x509', ...key, '-subj', `/CN=${name}`, ...signed, ...files);
  }
});

after(async () => {
  servers.forEach((server) => server.close());
  sockets.forEach((socket) => socket.destroy());
  await rm(directory, { recursive: true });
});

const pem = (name: string) => readFile(join(directory, name), 'utf8');

/** Leads connections to the service. */
async function forwarding(
  server: Server,
  event: string,
  ...where: [string] | [number, string]
): Promise<void> {
  const [host = '', port] = given('TEST_SQLITE').split(':');
  server.on(event, (socket: Socket) => {
    const behind = connect(Number(port), host);
    for (const end of [socket, behind]) {
      sockets.add(end);
      end.on('error', () => undefined);
    }
    socket.pipe(behind).pipe(socket);
  });
  servers.push(server);
  server.listen(...(where as [number, string]));
  await once(server, 'listening');
}

test('TLS with an authority and a certificate of our own', async () => {
  const ca = await pem('ca.pem');
  const [cert, key] = await Promise.all([pem('service.pem'), pem('service.key')]);
  const server = createTlsServer({
    ca,
    cert,
    key,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
  });
  await forwarding(server, 'secureConnection', 0, '127.0.0.1');
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const tls = { ca, serverName: 'events.test', cert: await pem('client.pem'), key: await pem('client.key') };
  await using trusted = new EventStream(address, { tls });
  assert.ok((await trusted.addEvent(eventType(), 1)) > 0n);
  await using distrusting = new EventStream(address);
  const refused = distrusting.addEvent(eventType(), 1, { timeoutMs: 300 });
  await assert.rejects(refused, { code: 'UNAVAILABLE', message: /certificate/ });
});

test('a Unix socket', async () => {
  const path = join(directory, 'socket');
  await forwarding(createServer(), 'connection', path);
  await using stream = new EventStream(`unix:${path}`);
  assert.ok((await stream.addEvent(eventType(), 1)) > 0n);
});

test('a token, asked for before each call', async () => {
  const seen: (string | undefined)[] = [];
  const server = createHttp2Server((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(200, { 'content-type': 'application/grpc', 'grpc-status': '16' });
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  let calls = 0;
  await using stream = new EventStream(address, { token: () => Promise.resolve(`token-${++calls}`) });
  await assert.rejects(stream.admin.status(), { code: 'UNAUTHENTICATED' });
  const receiver = stream.receive('T_TOKEN', () => assert.fail('nothing was sent'));
  await assert.rejects(receiver.done, { code: 'UNAUTHENTICATED' });
  assert.deepEqual(seen, ['Bearer token-1', 'Bearer token-2']);
  server.close();
});

test('an addition is repeated until the service is there', { timeout: 60_000 }, async () => {
  const database = `sqlite:${join(directory, 'late.db')}`;
  const service = new Service(await freePort(), ['--db', database]);
  await using stream = new EventStream(service.address);
  const added = stream.addEvent('T_LATE', 1);
  await service.start();
  assert.equal(await added, 1n);
  await service.kill();
  const gone = stream.addEvent('T_LATE', 2, { timeoutMs: 50 });
  await assert.rejects(gone, { name: 'ServiceError', code: 'UNAVAILABLE' });
  const reason = new Error('enough');
  const cancelled = stream.addEvent('T_LATE', 3, { signal: AbortSignal.abort(reason) });
  await assert.rejects(cancelled, reason);
});

test('a closed client makes no connection any more', async () => {
  const stream = serviceOn('SQLITE');
  await stream.addEvent(eventType(), 1);
  await stream.close();
  await assert.rejects(stream.addEvent(eventType(), 1), new EventStreamError('the client is closed'));
});
