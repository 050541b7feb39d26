// Calls a server that refuses, while it still sends, and prints how each call ended.
//
//   node refusals.js ADDRESS < cases.json
//
// The input and the lines of output are those of ../go/main.go.
'use strict';

const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');

const raw = (bytes) => bytes;

function metadataOf(one) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(one.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

/** Write until the call ends, no faster than the connection takes it. */
function send(call, one, hasEnded) {
  const left = one.messages.map((message) => Buffer.from(message, 'base64'));
  const flood = one.flood ? Buffer.from(one.flood, 'base64') : undefined;
  const more = () => {
    while (!hasEnded()) {
      const next = left.shift() ?? flood;
      if (next === undefined) {
        call.end();
        return;
      }
      if (!call.write(next)) {
        call.once('drain', more);
        return;
      }
    }
  };
  more();
}

function ended(one, status) {
  const [details] = status.metadata?.get('grpc-status-details-bin') ?? [];
  return { case: one.name, code: status.code, status: details?.toString('base64') ?? '' };
}

/** The status that the call ends with. */
function run(client, one) {
  const options = { deadline: Date.now() + 20_000 };
  const { method } = one;
  return new Promise((resolve) => {
    let done = false;
    const finish = (status) => {
      done = true;
      resolve(ended(one, status));
    };
    const metadata = metadataOf(one);
    const ignore = () => {};
    const first = Buffer.from(one.messages[0] ?? '', 'base64');
    if (!one.client_streams && !one.server_streams) {
      client.makeUnaryRequest(method, raw, raw, first, metadata, options, (error) =>
        finish(error ?? { code: 0 }),
      );
      return;
    }
    if (!one.client_streams) {
      const call = client.makeServerStreamRequest(method, raw, raw, first, metadata, options);
      call.on('data', ignore).on('error', ignore).on('status', finish);
      return;
    }
    if (!one.server_streams) {
      const call = client.makeClientStreamRequest(method, raw, raw, metadata, options, (error) =>
        finish(error ?? { code: 0 }),
      );
      call.on('error', ignore);
      send(call, one, () => done);
      return;
    }
    const call = client.makeBidiStreamRequest(method, raw, raw, metadata, options);
    call.on('data', ignore).on('error', ignore).on('status', finish);
    send(call, one, () => done);
  });
}

async function main(address) {
  const cases = JSON.parse(fs.readFileSync(0, 'utf8'));
  const client = new grpc.Client(address, grpc.credentials.createInsecure());
  for (const one of cases) {
    for (let time = 0; time < one.times; time += 1) {
      process.stdout.write(`${JSON.stringify(await run(client, one))}\n`);
    }
  }
  client.close();
}

main(process.argv[2]).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
