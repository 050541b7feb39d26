// Uploads a file with tus-js-client or Uppy, and prints how it ended as a line of JSON.
//
//   node tus.js OPTIONS
//
// OPTIONS is JSON: endpoint, client ("tus" or "uppy"), file, metadata, headers, chunkSize,
// parallelUploads, uploadDataDuringCreation; with tus also storage (a file, which keeps the URLs of
// uploads) and abortAt (bytes after which the upload is aborted and, by another object, resumed, or
// with terminate ended for good); with Uppy also files, their number.
'use strict';

const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const tus = require('tus-js-client');

function retried(options) {
  return {
    endpoint: options.endpoint,
    retryDelays: [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000],
    metadata: options.metadata,
    headers: options.headers,
    chunkSize: options.chunkSize || Infinity,
    parallelUploads: options.parallelUploads || 1,
    uploadDataDuringCreation: Boolean(options.uploadDataDuringCreation),
  };
}

function uploadOnce(options, storage, abortAt, terminate) {
  return new Promise((resolve, reject) => {
    const requests = [];
    let isAborted = false;
    const upload = new tus.Upload(fs.createReadStream(options.file), {
      ...retried(options),
      urlStorage: storage,
      storeFingerprintForResuming: true,
      removeFingerprintOnSuccess: true,
      onAfterResponse(request, response) {
        requests.push([request.getMethod(), response.getStatus()]);
      },
      onProgress(sent) {
        if (abortAt !== undefined && sent >= abortAt && !isAborted) {
          isAborted = true;
          upload.abort(terminate).then(() => resolve({ aborted: true, requests }), reject);
        }
      },
      onError: reject,
      onSuccess: () => resolve({ url: upload.url, requests }),
    });
    upload.findPreviousUploads().then((previous) => {
      if (previous.length > 0) {
        upload.resumeFromPreviousUpload(previous[0]);
      }
      upload.start();
    }, reject);
  });
}

async function withTus(options) {
  const storage = new tus.FileUrlStorage(options.storage);
  if (options.abortAt === undefined) {
    return uploadOnce(options, storage);
  }
  const before = await uploadOnce(options, storage, options.abortAt, options.terminate);
  return options.terminate ? before : { ...(await uploadOnce(options, storage)), before };
}

async function withUppy(options) {
  // Its packages are ES modules, which NODE_PATH does not find.
  const module = (name) =>
    import(pathToFileURL(path.join(process.env.NODE_PATH, '@uppy', name, 'lib', 'index.js')));
  const { default: Uppy } = await module('core');
  const { default: Tus } = await module('tus');
  const uppy = new Uppy({ autoProceed: false });
  uppy.use(Tus, { ...retried(options), limit: 4 });
  const content = fs.readFileSync(options.file);
  for (let number = 0; number < (options.files || 1); number += 1) {
    // In Node tus-js-client takes a Buffer, and Uppy asks for the size of a Blob.
    const data = Object.assign(Buffer.from(content), { size: content.length });
    uppy.addFile({ name: `photo ${number}.jpg`, type: 'image/jpeg', data, meta: { number } });
  }
  const { successful, failed } = await uppy.upload();
  const reasons = failed.map((file) => file.error);
  return { urls: successful.map((file) => file.uploadURL), failed: reasons };
}

const options = JSON.parse(process.argv[2]);
(options.client === 'uppy' ? withUppy : withTus)(options).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
