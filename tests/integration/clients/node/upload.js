// Uploads with nothing but the .proto, and prints how it ended.
//
//   node upload.js ADDRESS FOLDER_OF_PROTOS
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const CHUNKS = ['first', 'second', 'third'];

async function main(address, folder) {
  const definition = loader.loadSync('sluice/upload/v1/upload.proto', {
    includeDirs: [folder],
    keepCase: true,
    defaults: true, // chunk 0 has number 0, which is not on the wire
  });
  const { IntakeService } = grpc.loadPackageDefinition(definition).sluice.upload.v1;
  const intake = new IntakeService(address, grpc.credentials.createInsecure());
  const call = (method, request) =>
    new Promise((resolve, reject) => {
      intake[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
    });

  const upload = await call('InitiateUpload', { drive: 'photos', path: 'from/node.txt' });
  const accepted = await new Promise((resolve, reject) => {
    const numbers = [];
    const stream = intake.UploadStream();
    stream.on('data', (event) => event.accepted && numbers.push(Number(event.accepted.number)));
    stream.on('error', reject).on('end', () => resolve(numbers.sort()));
    CHUNKS.forEach((text, number) => {
      const data = Buffer.from(text);
      const header = { upload_id: upload.upload_id, number, size: data.length };
      stream.write({ header, data });
    });
    stream.end();
  });
  const request = {
    upload_id: upload.upload_id,
    total_chunks: CHUNKS.length,
    wait: { seconds: 30 },
  };
  const { status } = await call('CompleteUpload', request);
  process.stdout.write(JSON.stringify({ upload_id: upload.upload_id, accepted, state: status.state }));
  intake.close();
}

main(process.argv[2], process.argv[3]).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
