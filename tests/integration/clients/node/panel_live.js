// Follows jobs with the live updates of the panel (web/src/lib/websocket), and prints what happens as
// lines of JSON until its input ends.
//
//   node panel_live.js BUNDLE URL TOKEN JOB…
//
// BUNDLE is a CommonJS module with `createLiveUpdates`. A line `follow JOB`, `unfollow JOB` or `wake`
// of the input is obeyed.
'use strict';

const readline = require('node:readline');
const { WebSocket } = require('ws');

globalThis.WebSocket ??= WebSocket;

const [bundle, baseUrl, token, ...jobs] = process.argv.slice(2);
const { createLiveUpdates } = require(bundle);
const print = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

const live = createLiveUpdates({
  baseUrl,
  token: async () => token,
  listener: {
    onTransport: (transport) => print('transport', { transport }),
    onSnapshot: (jobId, updates, complete) => {
      const photos = updates.filter((each) => each.photoId !== null);
      const job = updates.find((each) => each.photoId === null);
      const statuses = Object.fromEntries(photos.map((each) => [each.photoId, each.status]));
      print('snapshot', { jobId, complete, status: job && job.status, statuses });
    },
    onChange: (update) => print('change', { ...update }),
    onGone: (jobId) => print('gone', { jobId }),
  },
});
for (const job of jobs) live.follow(job);

const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  const [name, ...given] = line.split(' ');
  live[name](...given);
});
input.on('close', () => {
  live.stop();
  print('stopped');
});
