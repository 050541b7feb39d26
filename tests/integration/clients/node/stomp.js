// Subscribes with @stomp/stompjs, and prints what happens as lines of JSON until its input ends. A line of input is
// the id of a subscription to end; ids are a:b0, a:b1, … in the order of the destinations.
//
//   node stomp.js DESTINATIONS TOKEN URL…
//
// DESTINATIONS have commas between them. Each connection goes to the next URL, by sockjs-client when
// that is http. Subscriptions resume after the newest message of their destination.
'use strict';

const readline = require('node:readline');
const { Client } = require('@stomp/stompjs');
const SockJS = require('sockjs-client');
const { WebSocket } = require('ws');

const [destinations, token, ...urls] = process.argv.slice(2);
const print = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

let connections = 0;
const newest = {};
const beats = { '<<< PONG': 0, '>>> PING': 0 };

const client = new Client({
  webSocketFactory: () => {
    const url = urls[connections++ % urls.length];
    return url.startsWith('http') ? new SockJS(url) : new WebSocket(url, ['v12.stomp', 'v11.stomp']);
  },
  connectHeaders: { Authorization: `Bearer ${token}` },
  reconnectDelay: 20,
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
    destinations.split(',').forEach((destination, index) => {
      const receipt = `subscribed-${index}`;
      const subscription = `a:b${index}`;
      const headers = { id: subscription, receipt };
      if (newest[destination]) headers.after = String(newest[destination]);
      client.watchForReceipt(receipt, () => print('subscribed', { destination }));
      client.subscribe(
        destination,
        (message) => {
          const body = JSON.parse(message.body);
          newest[destination] = Math.max(newest[destination] || 0, body.sequence);
          print('message', { destination, subscription, kind: message.headers.kind, ...body });
        },
        headers,
      );
    });
  },
  onStompError: (frame) => print('error', { reason: frame.headers.message }),
  onWebSocketClose: (event) => print('closed', { code: event.code, reason: event.reason }),
});

client.activate();
const input = readline.createInterface({ input: process.stdin });
input.on('line', (subscription) => {
  const receipt = `unsubscribed-${subscription}`;
  client.watchForReceipt(receipt, () => print('unsubscribed', { subscription }));
  client.unsubscribe(subscription, { receipt });
});
input.on('close', async () => {
  await client.deactivate();
  print('deactivated');
});
