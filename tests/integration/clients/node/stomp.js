// Subscribes with @stomp/stompjs, and prints what happens as lines of JSON until its input ends.
//
//   node stomp.js DESTINATION TOKEN URL…
//
// Each connection goes to the next URL, by sockjs-client when that is http. A subscription resumes
// after the newest message.
'use strict';

const readline = require('node:readline');
const { Client } = require('@stomp/stompjs');
const SockJS = require('sockjs-client');
const { WebSocket } = require('ws');

const [destination, token, ...urls] = process.argv.slice(2);
const print = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

let connections = 0;
let after = 0;
const beats = { '<<< PONG': 0, '>>> PING': 0 };

const client = new Client({
  webSocketFactory: () => {
    const url = urls[connections++ % urls.length];
    return url.startsWith('http') ? new SockJS(url) : new WebSocket(url, ['v12.stomp', 'v11.stomp']);
  },
  connectHeaders: { Authorization: `Bearer ${token}` },
  reconnectDelay: 10,
  heartbeatIncoming: 50,
  heartbeatOutgoing: 50,
  heartbeatToleranceMultiplier: 1000,
  discardWebsocketOnCommFailure: true,
  debug: (line) => {
    if (!(line in beats)) return;
    beats[line] += 1;
    if (beats[line] === 3) print('beats', { direction: line.slice(0, 3) });
  },
  onConnect: (frame) => {
    print('connected', { version: frame.headers.version, server: frame.headers.server });
    const headers = after ? { id: 'a:b', after: String(after) } : { id: 'a:b' };
    headers.receipt = 'subscribed';
    client.watchForReceipt('subscribed', () => print('subscribed'));
    client.subscribe(
      destination,
      (message) => {
        const body = JSON.parse(message.body);
        after = Math.max(after, body.sequence);
        print('message', { kind: message.headers.kind, ...body });
      },
      headers,
    );
  },
  onStompError: (frame) => print('error', { reason: frame.headers.message }),
  onWebSocketClose: (event) => print('closed', { code: event.code, reason: event.reason }),
});

client.activate();
readline.createInterface({ input: process.stdin }).on('close', async () => {
  await client.deactivate();
  print('deactivated');
});
