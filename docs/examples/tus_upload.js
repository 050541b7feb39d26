// Upload a file by tus with tus-js-client, in Node. In a browser pass a File instead of a stream.
//
//   npm install tus-js-client
//   SLUICE_TOKEN=… node docs/examples/tus_upload.js http://127.0.0.1:8080 FILE
'use strict';

const fs = require('fs');
const path = require('path');
const tus = require('tus-js-client');

const [server, file] = process.argv.slice(2);
const token = process.env.SLUICE_TOKEN;

const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint: `${server}/files/`,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
  metadata: { filename: path.basename(file), filetype: 'image/jpeg' },
  retryDelays: [0, 1000, 3000, 5000, 10000],
  onError: (error) => {
    console.error(`failed: ${error.message}`);
    process.exitCode = 1;
  },
  onProgress: (sent, total) => console.error(`${sent} of ${total} bytes`),
  onSuccess: () => console.log(`uploaded: ${upload.url}`),
});

upload.start();
