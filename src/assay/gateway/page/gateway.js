// The gateway's endpoints, as this page uses them.

/** A refusal of the gateway, in its own words. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(method, path, { body, key } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refusal(0, "The gateway does not answer. Check the connection and try again.");
  }
  const document = await answer.json().catch(() => null);
  if (!answer.ok || document === null) {
    throw new Refusal(answer.status, document?.detail ?? `The gateway answered with status ${answer.status}.`);
  }
  return document;
}

export const policy = () => ask("GET", "v1/policy");
export const account = (key) => ask("GET", "v1/account", { key });
export const challenge = (wanted, key) => ask("POST", "v1/challenge", { body: wanted, key });
export const redeem = (proof, key) => ask("POST", "v1/redeem", { body: { proof }, key });
