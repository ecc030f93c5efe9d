// Nodemailer with its pool. Usage: node nodemailer.mjs FOLDER NODE_FOLDER
// The templates only insert values: JavaScript joins them, which costs next to nothing.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [folder, nodeFolder] = process.argv.slice(2).map((path) => resolve(path));
const nodemailer = createRequire(join(nodeFolder, "package.json"))("nodemailer");
const read = (name) => readFileSync(join(folder, name));
const job = JSON.parse(read("job.json"));

const template = (source) => {
  const parts = source.split(/\{\{ (\w+) \}\}/);
  return (person) => {
    let filled = parts[0];
    for (let i = 1; i < parts.length; i += 2) filled += person[parts[i]] + parts[i + 1];
    return filled;
  };
};
const subject = template("{{ name }}, the programme of {{ city }}");
const text = template(read("letter.txt").toString());
const html = template(read("letter.html").toString());
const attachment = read("programme.bin");

const [heading, ...rows] = read("people.csv").toString().trim().split("\n");
const names = heading.split(",");
const people = rows.map((row) => {
  const cells = row.split(",");
  return Object.fromEntries(names.map((name, i) => [name, cells[i]]));
});

const pool = nodemailer.createTransport({
  pool: true,
  host: job.host,
  port: job.port,
  secure: true,
  maxConnections: job.connections,
  maxMessages: Infinity,
  tls: { ca: readFileSync(job.ca_file) },
});

let next = 0;
const send = async () => {
  while (next < people.length) {
    const person = people[next++];
    await pool.sendMail({
      from: { name: "The programme", address: "news@example.org" },
      to: { name: person.name, address: person.email },
      subject: subject(person),
      text: text(person),
      html: html(person),
      attachments: job.attachment ? [{ filename: "programme.bin", content: attachment }] : [],
    });
  }
};
// Twice the connections, so that a message is ready whenever one is free.
await Promise.all(Array.from({ length: 2 * job.connections }, send));
pool.close();
